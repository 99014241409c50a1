"""Makes the peers' environment, next to this file and not in git, when a benchmark first needs it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
REQUIREMENTS = FOLDER / "requirements.txt"


def peers_python(folder: Path = FOLDER / ".venv") -> Path | str:
    """The interpreter of the peers' environment, or a sentence that says why there is none.

    The environment is made when it is missing or when the requirements have changed since.
    """
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = REQUIREMENTS.read_text()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making {folder} for the peers; this happens once and takes a minute or more", file=sys.stderr, flush=True)
    try:
        venv.create(folder, with_pip=True, clear=True)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--disable-pip-version-check", "-r", REQUIREMENTS]
        # pip's progress goes to standard error, since standard output is for results; its errors are captured.
        subprocess.run(pip, check=True, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [str(error)]
        return f"not installed: {lines[-1]}"
    except OSError as error:
        return f"not installed: {error}"
    stamp.write_text(wanted)
    return python


def torch_python(folder: Path = FOLDER / ".venv") -> Path | str:
    """An interpreter that has PyTorch, this one or the peers', or why there is none; installs nothing."""
    if importlib.util.find_spec("torch"):
        return Path(sys.executable)
    python = folder / "bin" / "python"
    return python if (folder / ".installed").exists() and python.exists() else "torch is not installed"
