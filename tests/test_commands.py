"""How `python -m stages.defects COMMAND` and `python -m experiments COMMAND` end."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from edge.errors import UserError
from experiments import stores
from experiments.__main__ import main as experiments
from stages.defects import label
from stages.defects.commands import main as defects

ENTRIES = {
    "stages.defects": (defects, label, ["label", "x", "--as", "y"]),
    "experiments": (experiments, stores, ["stores"]),
}


@pytest.fixture(params=ENTRIES)
def ended(request, monkeypatch, capsys):
    """Exit code and standard error of a command that raises something."""
    main, module, words = ENTRIES[request.param]

    def end(error):
        def run(_):
            raise error

        monkeypatch.setattr(module, "run", run)
        with pytest.raises(SystemExit) as caught:
            main(words)
        return caught.value.code, capsys.readouterr().err.replace(words[0], "COMMAND")

    return end


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a\nb: wrong"), 1, "error: COMMAND: a\\nb: wrong\n"),
        (KeyboardInterrupt(), 130, "error: COMMAND: interrupted\n"),
        (BrokenPipeError(), 1, ""),
        (PermissionError(13, "Permission denied", "out"), 1, "error: COMMAND: out: Permission denied\n"),
    ],
    ids=["input", "interrupt", "pipe", "file"],
)
def test_ends_are_lines(ended, error, code, line):
    assert ended(error) == (code, line)


@pytest.mark.parametrize("package", ENTRIES)
def test_an_error_of_the_program_stays_a_traceback(package, monkeypatch):
    main, module, words = ENTRIES[package]
    monkeypatch.setattr(module, "run", lambda _: {}["no such key"])
    with pytest.raises(KeyError):
        main(words)


def start(package, *words, **streams):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    return subprocess.Popen([sys.executable, "-m", package, *words], cwd=ROOT, env=environment, text=True, **streams)


@pytest.mark.parametrize("package", ENTRIES)
def test_a_reader_that_went_away_is_no_message(package):
    """What is still held back when the command ends is written then, not when Python does."""
    read, write = os.pipe()
    os.close(read)
    process = start(package, "--help", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert process.communicate()[1] == "" and process.returncode == 1


@pytest.mark.parametrize("package", ENTRIES)
def test_an_unknown_command_is_bad_usage(package):
    process = start(package, "nonsense", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, said = process.communicate()
    assert process.returncode == 2 and not out and "invalid choice: 'nonsense'" in said and "Traceback" not in said


def test_control_c_while_a_command_works(tmp_path):
    words = ["--points", "100000", "--only", "brute", "--folder", tmp_path]
    process = start("experiments", "stores", *words, stderr=subprocess.PIPE)
    while not list(tmp_path.glob("measured/*")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "error: stores: interrupted\n" and process.returncode == 130
