"""How fast can AdaGrad go before the embedding collapses?

Section 3.3 of the paper starts at 0.05 for most of its networks. The first steps move by learning_rate /
sqrt(initial_accumulator), so the two belong together; the sweep leaves the accumulator as the config has it.

facenet-jax sweep learning_rate --config=nn4 --config.data.path=faces
"""

AXIS = "learning rate"


def points(base):
    for rate in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
        # The rate that the run ends with keeps its ratio to the one it starts with.
        end = base.optimizer.final_learning_rate * rate / base.optimizer.learning_rate
        yield f"{rate:g}", {"optimizer.learning_rate": rate, "optimizer.final_learning_rate": round(end, 9)}
