"""The config of a run that takes seconds: the smallest network on the smallest faces, on one device."""

TINY = (
    "--config.steps=6",
    "--config.model.norm=response",  # the paper's form
    "--config.model.input_size=(32, 32)",
    "--config.model.embedding_size=64",
    "--config.data.workers=0",
    "--config.data.drawn.identities=20",
    "--config.data.drawn.faces_per_identity=6",
    "--config.batch.size=18",
    "--config.batch.faces_per_identity=4",
    "--config.batch.random_negatives=2",
    "--config.optimizer.finalise_steps=0",
    "--config.eval.every=0",
    "--config.eval.drawn_identities=60",
    "--config.eval.max_faces_per_identity=4",
    "--config.eval.batch=240",
    "--config.checkpoint.every=2",
    "--config.log.every=1",
    "--config.mesh.data=1",
)
