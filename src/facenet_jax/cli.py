"""One door: the command `facenet-jax` and its subcommands."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from facenet_jax import __version__
from facenet_jax.errors import InputError, TrainingError

_EPILOG = """\
a first run, on drawn faces that need no download:
  facenet-jax train --config=quickstart --workdir=runs/quickstart
your own photographs, one folder a person:
  facenet-jax train --config=nn4 --config.data.path=photos --workdir=runs/nn4
what a network is made of:
  facenet-jax describe nn2
"""

_TRAIN_EPILOG = """\
Every value of the config can be given as --config.KEY=VALUE, for instance
  facenet-jax train --config=nn1 --config.data.path=photos --config.loss.margin=0.1 --workdir=runs/nn1
`facenet-jax config nn1` lists the keys. Given again with the same --workdir, the command goes on where the run stopped;
a finished run prints its table again. Ctrl-C saves and leaves.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand; bad input is one sentence on standard error and exit code 2."""
    parser = _parser()
    options, overrides = parser.parse_known_args(arguments)
    if overrides and options.command not in ("train", "config"):
        parser.error(f"{overrides[0]}: not understood by `{options.command}`; see facenet-jax {options.command} --help")
    # Libraries report their own affairs at INFO; a person asked for the run's.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        return int(options.run(options, overrides))
    except InputError as error:
        print(f"facenet-jax: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"facenet-jax: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that may no longer be written
        print(
            f"facenet-jax: {error.strerror or error}: {error.filename or ''}".rstrip(": ") + "; what was saved "
            "before is kept: mend this and give the same command again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("facenet-jax: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facenet-jax",
        description="FaceNet in JAX: train face embeddings with triplets, and measure them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"facenet-jax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a network, or go on training it",
        description="Trains a network in a working directory, or goes on where it stopped.",
        epilog=_TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    train.add_argument("--config", default="quickstart", help="a config file, or the name of one (default: quickstart)")
    train.add_argument("--workdir", type=Path, help="where the run lives (default: runs/<config>)")
    train.add_argument("--trace", type=int, metavar="STEP", help="write a profile of this step to WORKDIR/trace")
    train.set_defaults(run=_train)

    config = commands.add_parser(
        "config",
        help="print a config's keys and values",
        description="Prints every key and value of a config, with overrides applied.",
        allow_abbrev=False,
    )
    config.add_argument("config", help="a config file, or the name of one")
    config.set_defaults(run=_config)

    describe = commands.add_parser(
        "describe",
        help="print a network's table: layers, parameters, multiply-adds",
        description="Prints the table of a network, worked out from the network itself, as in Tables 1 and 2.",
        allow_abbrev=False,
    )
    describe.add_argument("network", help="nn1, nn2, nn3, nn4, nns1 or nns2")
    describe.add_argument("--input-size", type=_size, metavar="ROWSxCOLUMNS", help="pixels (default: the paper's)")
    describe.add_argument("--embedding-size", type=int, default=128, help="64 to 512 (default: 128)")
    describe.add_argument(
        "--five-by-five", metavar="WHERE", help="modules with a 5x5 branch: all, lower, none (default: the paper's)"
    )
    describe.set_defaults(run=_describe)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a trained network by the paper's protocols",
        description="Measures the best checkpoint of a run on faces of people that it was not trained on.",
        allow_abbrev=False,
    )
    protocols = evaluate.add_subparsers(dest="protocol", required=True, metavar="PROTOCOL")
    holdout = protocols.add_parser(
        "holdout",
        help="VAL at FAR 1e-2 and 1e-3 over splits of identities (section 4.1)",
        description="VAL at FAR 1e-2 and 1e-3, mean and standard error over splits of the identities.",
        allow_abbrev=False,
    )
    holdout.add_argument("--embedder", type=Path, required=True, help="the working directory of a run")
    holdout.add_argument("--data", help="a folder <identity>/<image> (default: the run's own held-out faces)")
    holdout.add_argument("--step", type=int, help="of the checkpoint (default: the best, or else the latest)")
    holdout.add_argument("--out", type=Path, help="a folder for holdout.json and roc.png")
    holdout.set_defaults(run=_evaluate_holdout)
    return parser


def _train(options: argparse.Namespace, overrides: list[str]) -> int:
    from facenet_jax.config import load_config
    from facenet_jax.training.loop import train

    config = load_config(options.config, overrides)
    workdir = options.workdir or Path("runs") / Path(options.config).stem
    if options.trace is not None and options.trace < 1:
        raise InputError(f"--trace={options.trace}: steps count from 1; give the number of one that is still to come.")
    return train(config, workdir, trace_step=options.trace)


def _config(options: argparse.Namespace, overrides: list[str]) -> int:
    from facenet_jax.config import flatten, load_config

    for key, value in flatten(load_config(options.config, overrides)).items():
        print(f"--config.{key}={value}")
    return 0


def _describe(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax import models

    network = models.build(options.network, embedding_size=options.embedding_size, five_by_five=options.five_by_five)
    size = options.input_size or models.NETWORKS[options.network].input_size
    models.check_input_size(*size)
    print(models.format_table(models.describe(network, size)))
    return 0


def _evaluate_holdout(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.evaluation.holdout import format_table, to_json
    from facenet_jax.evaluation.plots import roc_figure
    from facenet_jax.training.trained import evaluate_trained

    step, name, result = evaluate_trained(options.embedder, options.data, options.step)
    print(f"{options.embedder} at step {step:,}, on {name}\n{format_table(result)}")
    if options.out:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "holdout.json").write_text(json.dumps(to_json(result), indent=1) + "\n")
        except OSError as error:
            raise InputError(
                f"--out={options.out} cannot be written ({error.strerror}); give another folder."
            ) from error
        print(f"written         {options.out / 'holdout.json'}, {roc_figure({name: result}, options.out / 'roc.png')}")
    return 0


def _size(text: str) -> tuple[int, int]:
    try:
        rows, columns = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 140x116") from None
    return rows, columns


if __name__ == "__main__":
    sys.exit(main())
