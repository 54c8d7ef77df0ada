"""Carries out commands in processes forked from one that has imported the frameworks; a program of test_cli.py.

Reads `[arguments, folder]` as a line of JSON from stdin, and answers with exit code, stdout and stderr in another. (A
fork of a process in which TensorFlow has been imported and not yet used takes half a second; a new process ten.)
"""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import keras  # noqa: F401
import tensorflow_datasets  # noqa: F401

from tfl.cli.main import main


def carried_out(arguments, folder):
    with tempfile.TemporaryDirectory() as scratch:
        written = {"stdout": Path(scratch) / "stdout", "stderr": Path(scratch) / "stderr"}
        if (pid := os.fork()) == 0:
            end_with(arguments, folder, written)
        _, status = os.waitpid(pid, 0)
        texts = {name: path.read_text(encoding="utf-8", errors="backslashreplace") for name, path in written.items()}
    return {"returncode": os.waitstatus_to_exitcode(status), **texts}


def end_with(arguments, folder, written):
    code = 1
    try:
        os.chdir(folder)
        for path, number in zip(written.values(), (1, 2), strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


for line in sys.stdin:
    sys.stdout.write(json.dumps(carried_out(*json.loads(line))) + "\n")
    sys.stdout.flush()
