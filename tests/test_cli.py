"""Commands as a user types them, each in a process of its own."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import WITHOUT_TENSORFLOW, write_npz

ROOT = Path(__file__).parents[1]
MAIN = "import sys; from tfl.cli.main import main; sys.exit(main())"
LAB = Path(__file__).with_name("cli_lab.py")
SMALL = ["--backbone", "mobilenetv3small", "--weights", "random", "--image-size", "32", "--batch-size", "16"]


@pytest.fixture(scope="module")
def tfl():
    """A function that carries out `tfl` with these arguments in folder `cwd`, in a process of its own."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(LAB)], stdin=pipe, stdout=pipe, text=True) as laboratory:

        def carried_out(*arguments, cwd):
            laboratory.stdin.write(json.dumps([[str(word) for word in arguments], str(cwd)]) + "\n")
            laboratory.stdin.flush()
            return argparse.Namespace(**json.loads(laboratory.stdout.readline()))

        yield carried_out
        laboratory.stdin.close()


def last_line(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def work(tfl, tmp_path_factory):
    """A working directory with a dataset, a cache and a run."""
    folder = tmp_path_factory.mktemp("work")
    write_npz(folder / "colours.npz", train=120, test=40)
    made = tfl("precompute", "--dataset", "colours.npz", *SMALL, cwd=folder)
    cache = last_line(made)
    trained = tfl("train", cache, "--epochs", "5", "--learning-rate", "0.05", cwd=folder)
    return {"folder": folder, "made": made, "cache": cache, "trained": trained, "run": last_line(trained)}


def test_precompute_prints_the_path_and_no_chatter(work):
    assert work["made"].stdout == work["cache"] + "\n"
    assert Path(work["cache"]).parent == Path("cache")
    assert re.fullmatch(r"(openvino|tensorflow) on .+, batches of \d+\n", work["made"].stderr)


def test_a_view_is_added_and_an_odd_one_refused(tfl, work):
    precompute = ["precompute", "--dataset", "colours.npz", *SMALL, "--views"]
    made = tfl(*precompute, "original", "hflip", cwd=work["folder"])
    found = json.loads(tfl("inspect", last_line(made), "--json", cwd=work["folder"]).stdout)
    assert found["spec"]["views"] == ["original", "hflip"]
    assert found["provenance"]["images_computed"] == 160
    assert f"rows that {work['cache']} holds are copied" in made.stderr
    refused = tfl(*precompute, "hflip", cwd=work["folder"])
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "try --views original hflip" in refused.stderr


def test_train_prints_a_table_and_the_run(work):
    lines = work["trained"].stdout.splitlines()
    assert lines[0].split() == ["epoch", "loss", "accuracy", "seconds"]
    assert [line.split()[0] for line in lines[1:6]] == ["1", "2", "3", "4", "5"]
    assert work["run"].startswith("runs/colours-mobilenetv3small-32-")
    assert work["trained"].stderr == ""


def test_evaluate_as_json_and_as_table(tfl, work):
    metrics = json.loads(tfl("evaluate", work["run"], "--json", cwd=work["folder"]).stdout)
    assert 0 <= metrics["accuracy"] <= 1
    table = tfl("evaluate", work["run"], cwd=work["folder"]).stdout
    assert f"test accuracy {metrics['accuracy']:.2%} of 40 (95 % interval" in table
    assert "green" in table


def test_recipes_have_flags_of_their_own(tfl, work):
    shown = tfl("train", "--recipe", "logistic", "--help", cwd=work["folder"])
    assert shown.returncode == 0
    assert "--l2" in shown.stdout
    assert "--epochs" not in shown.stdout
    assert "--epochs" in tfl("train", "--help", cwd=work["folder"]).stdout


def test_a_recipe_that_chooses_prints_its_trials(tfl, work):
    words = ("--recipe", "ridge", "--l2", "0.1", "1", "--tensorboard")
    done = tfl("train", work["cache"], *words, cwd=work["folder"])
    folder = last_line(done)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["recipe", "setting", "val_accuracy", "val_loss", "seconds"]
    assert [line.split()[:3] for line in lines[1:3]] == [["ridge", "l2", "0.1"], ["ridge", "l2", "1.0"]]
    assert any(line.startswith("chosen on validation rows: ridge l2 ") for line in lines)
    assert any(line.startswith("temperature ") for line in lines)
    assert f"TensorBoard {folder}/tensorboard" in lines
    assert list((work["folder"] / folder / "tensorboard").iterdir())
    listed = tfl("runs", cwd=work["folder"]).stdout
    assert Path(folder).name in listed
    assert {entry["recipe"] for entry in json.loads(tfl("runs", "--json", cwd=work["folder"]).stdout)} >= {"ridge"}
    again = tfl("runs", "--reproduce", folder, cwd=work["folder"])
    assert f"every number of {folder} again" in again.stdout
    compared = json.loads(tfl("evaluate", folder, work["run"], "--json", cwd=work["folder"]).stdout)
    assert 0 <= compared["p_value"] <= 1
    assert "McNemar" in tfl("evaluate", folder, work["run"], cwd=work["folder"]).stdout
    assert last_line(tfl("runs", "--remove", last_line(again), cwd=work["folder"]))
    assert not (work["folder"] / last_line(again)).exists()


def test_shots_leave_a_table_and_a_picture(tfl, work):
    done = tfl("train", work["cache"], "--recipe", "ridge", "--shots", "1", "5", "--repeats", "2", cwd=work["folder"])
    folder = work["folder"] / last_line(done)
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [["ridge", "1"], ["ridge", "5"]]
    assert sorted(path.name for path in folder.iterdir()) == ["shots.json", "shots.png"]


def test_export_then_predict(tfl, work):
    done = tfl("export", work["run"], "--out", "model", cwd=work["folder"])
    assert last_line(done) == "model"
    assert re.search(r"checked in a fresh process on \d+ images", done.stdout)
    from PIL import Image

    Image.new("RGB", (30, 20), "red").save(work["folder"] / "a.png")
    lines = tfl("predict", "model", "a.png", "a.png", "--json", cwd=work["folder"]).stdout.splitlines()
    assert [json.loads(line)["image"] for line in lines] == ["a.png", "a.png"]
    assert "a.png\t" in tfl("predict", "model", "a.png", cwd=work["folder"]).stdout


def test_caches_are_listed(tfl, work, tmp_path):
    done = tfl("caches", cwd=work["folder"])
    header, *lines = done.stdout.splitlines()
    assert (header.split(), done.stderr) == (["cache", "bytes", "made", "holds"], "")
    assert any(line.startswith(Path(work["cache"]).name) and "100%  train 120, test 40" in line for line in lines)
    assert "no caches in cache; `tfl precompute` makes one" in tfl("caches", cwd=tmp_path).stdout


def test_inspect_and_verify(tfl, work):
    overview = tfl("inspect", work["cache"], cwd=work["folder"]).stdout
    assert "rows         train 120 x 576 float32, test 40 x 576 float32" in overview
    assert "  green  train" in overview
    found = json.loads(tfl("inspect", work["cache"], "--json", cwd=work["folder"]).stdout)
    assert found["rows"] == {"train": 120, "test": 40}
    assert "every byte is what was written" in last_line(tfl("verify", work["cache"], cwd=work["folder"]))
    assert json.loads(tfl("verify", work["cache"], "--json", cwd=work["folder"]).stdout)["problems"] == []


def test_verify_names_the_damaged_rows_and_train_uses_none(tfl, work, tmp_path):
    content = bytearray((work["folder"] / work["cache"]).read_bytes())
    content[-len(content) // 3] ^= 4  # somewhere in the features of the training rows
    (tmp_path / "damaged.h5").write_bytes(content)
    done = tfl("verify", "damaged.h5", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "tfl: damaged.h5 is damaged; remove it and precompute again:\n  train/features rows 0 to"
    )
    done = tfl("train", "damaged.h5", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "damaged.h5 cannot be trusted; remove it and precompute again:\n  train/features rows 0 to" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_cache_of_another_image_size_is_never_reused(tfl, work):
    done = tfl("precompute", "--dataset", "colours.npz", *SMALL, "--image-size", "40", cwd=work["folder"])
    assert last_line(done) != work["cache"]
    assert f"{work['cache']} cannot be reused as it is:\n  image_size: 32 on disk, 40 requested" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "none.h5"], 1, "tfl: there is no cache file none.h5"),
        (["evaluate", "."], 1, "tfl: . is not a run folder"),
        (["precompute", "--image-size", "-1"], 2, "positive number of pixels, got -1"),
        (["precompute", "--dataset", "none.npz"], 1, "there is no file none.npz"),
        (["precompute", "--dataset", "colours.npz", "--train-split", "train[1"], 2, "a split is NAME"),
        (["precompute", "--interpolation", "area"], 2, "interpolation"),
        (["train"], 2, "required"),
        (["train", "none.h5", "--recipe", "magic"], 2, "recipe"),
        (["train", "none.h5", "--recipe", "ridge", "--l2", "-1"], 2, "l2 is positive, got -1"),
        (["train", "none.h5", "--recipe", "ridge", "--epochs", "3"], 2, "epochs"),
        (["train", "none.h5", "--classes", "cat"], 2, "two or more different classes are needed, got cat"),
        (["train", "none.h5", "--shots", "0"], 2, "shots is at least 1, got 0"),
        (["evaluate", ".", "."], 1, "tfl: . is not a run folder"),
        (["runs", "--remove", "."], 1, "tfl: . is not a run folder"),
        (["fly"], 2, "fly"),
        (["inspect", "none.h5"], 1, "tfl: there is no cache file none.h5"),
        (["verify", "none.h5"], 1, "tfl: there is no cache file none.h5"),
        (["verify", "colours.npz"], 1, "colours.npz is not an HDF5 file"),
        (["precompute", "--on-bad-image", "ignore"], 2, "on-bad-image"),
    ],
)
def test_errors_have_exit_codes_and_no_traceback(tfl, work, arguments, code, message):
    done = tfl(*arguments, cwd=work["folder"])
    assert done.returncode == code, done.stderr
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


LONG, DEEP, ODD = "a" * 300, "a/" * 3000, "\x1b[31m\n\u202e\udce9"
NAMES = ("", LONG, DEEP, "a\0b", "folder", "colours.npz", "colours.npz/x", "~nosuchuser", ODD)
READERS = (["train"], ["evaluate"], ["inspect"], ["verify"], ["runs", "--remove"], ["runs", "--reproduce"])
NUMBERS = {
    "--learning-rate": ("nan", "inf", "1e400", "-1", "0", "x"),
    "--epochs": ("0", "-1", "1e3", "10**9"),
    "--seed": ("-1", "nan"),
    "--batch-size": ("0", "-1", "1000000000"),
}
OF_RECIPES = {
    "ridge": {"--l2": ("nan", "inf", "0")},
    "logistic": {"--tolerance": ("nan", "inf"), "--max-iterations": ("0",)},
    "mlp": {"--mixup": ("nan", "inf", "-1"), "--weight-decay": ("nan",), "--hidden": ("0",), "--dropout": ("1", "nan")},
    "grid": {"--learning-rate": ("inf",), "--momentum": ("nan",)},
    "knn": {"--temperature": ("inf",), "--neighbours": ("0",)},
    "best": {"--seconds": ("inf", "nan")},
}


def is_one_line(done):
    """tfl's own line, or the frame in which tyro says what cannot be parsed."""
    lines = re.sub(r"examining .*\n", "", done.stderr).splitlines()
    return len(lines) == 1 if lines[-1].startswith("tfl: ") else done.returncode == 2


def assert_refused(done):
    assert done.returncode in (1, 2), done
    assert is_one_line(done), done.stderr
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.stdout + done.stderr)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_ends_in_one_line(tfl, work, name):
    (work["folder"] / "folder").mkdir(exist_ok=True)
    for words in READERS:
        if (words[0], name) != ("verify", "colours.npz"):  # whose damage is told in two lines
            assert_refused(tfl(*words, name, cwd=work["folder"]))
    assert_refused(tfl("export", work["run"], "--out", name, "--dataset", "none.npz", cwd=work["folder"]))
    assert_refused(tfl("export", name, "--out", "none", cwd=work["folder"]))
    assert_refused(tfl("precompute", "--dataset", name, *SMALL, "--train-split", "none", cwd=work["folder"]))
    assert_refused(tfl("precompute", "--dataset", "colours.npz", *SMALL, "--backbone", name, cwd=work["folder"]))
    assert not (work["folder"] / "~nosuchuser").exists()


@pytest.mark.parametrize("name", ["colours.npz", "colours.npz/x", "a\0b", "~nosuchuser", "", LONG])
def test_a_file_is_no_folder_to_write_into(tfl, work, name):
    assert_refused(tfl("precompute", "--dataset", "colours.npz", *SMALL, "--cache-dir", name, cwd=work["folder"]))
    assert_refused(tfl("train", work["cache"], "--runs-dir", name, cwd=work["folder"]))
    for words in (["caches", "--cache-dir"], ["runs", "--runs-dir"]):
        if name != LONG:
            assert_refused(tfl(*words, name, cwd=work["folder"]))
    if name:
        assert_refused(tfl("train", work["cache"], "--name", f"{name}/\x1b", cwd=work["folder"]))


def test_any_number_ends_in_one_line(tfl, work):
    of_all = [([], flag, value) for flag, values in NUMBERS.items() for value in values]
    for recipe, flags in OF_RECIPES.items():
        of_all += [(["--recipe", recipe], flag, value) for flag, values in flags.items() for value in values]
    for words, flag, value in of_all:
        assert_refused(tfl("train", work["cache"], *words, flag, value, cwd=work["folder"]))
    for words in ("image-size 10**9", "image-size 1000000000", "image-size nan", "shard-rows 0", "batch-size -1"):
        flag, value = words.split()
        assert_refused(tfl("precompute", "--dataset", "colours.npz", *SMALL, f"--{flag}", value, cwd=work["folder"]))


def test_faults_are_one_line_and_show_their_traceback_if_asked(work):
    program = "def run(self) -> None: raise {}\nCaches.run = run\nexit(main())"

    imports = "from tfl.cli.commands.caches import Caches; from tfl.cli.main import main"

    def told(error, **variables):
        command = [sys.executable, "-c", f"{imports}\n{program.format(error)}", "caches"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 1
        return done.stderr

    fault = "tfl: internal error, KeyError: 'a\\nb' (<string>, line 2); please report it, "
    assert told("KeyError('a\\nb')") == f"{fault}with the traceback that TFL_DEBUG=1 shows\n"
    assert "Traceback" in told("KeyError('a')", TFL_DEBUG="1")
    assert told("MemoryError") == (
        "tfl: too little memory: end other programs, or take a smaller --batch-size, --image-size or slice\n"
    )
    assert told("OSError(28, 'full', 'a\\nb')") == "tfl: the operating system refused: [Errno 28] full: 'a\\nb'\n"
    assert told("'é'.encode('ascii')").startswith("tfl: a name cannot be written in ascii: 'é'; rename it, or set")


STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def test_hostile_names_from_images_to_predictions(tfl, tmp_path_factory):
    """Class, folder and file names that steer terminals, forge lines, and are Markdown and HTML."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("hostile")
    names = ["\x1b[31mred\x07", "a\n  b\u202e\u2028", "<b>x|y", "$x^$\t\x9b犬"]
    for split, count in (("train", 4), ("test", 2)):
        for i, name in enumerate(names):
            (folder / "pets\x1b[2J" / split / name).mkdir(parents=True)
            for k in range(count):
                picture = Image.new("RGB", (9, 8), (60 * i, 9 * k, 0))
                picture.save(folder / "pets\x1b[2J" / split / name / f"\x1b]0;{k}\x07\n.png")
    seen = []

    def done(*arguments):
        seen.append(tfl(*arguments, cwd=folder))
        return seen[-1]

    cache = last_line(done("precompute", "--dataset", "pets\x1b[2J", *SMALL))
    shown = done("inspect", cache).stdout
    assert re.search(r"^  \\x1b\[31mred\\x07 +train +4  test +2$", shown, re.MULTILINE)
    copy = (folder / cache).rename(folder / "c\x1b[31m\n.h5")
    done("caches", "--cache-dir", ".")
    done("inspect", copy.name)
    done("verify", copy.name)
    run = last_line(done("train", copy.name, "--epochs", "1"))
    assert run == "runs/c_[31m_-reference-1"
    done("train", copy.name, "--classes", "nothing\x1b", names[0])
    done("train", copy.name, "--recipe", "ridge", "--l2", "1", "2")
    done("runs")
    done("evaluate", run)
    done("evaluate", run, run)
    assert last_line(done("export", run, "--out", "model", "--dataset", "pets\x1b[2J")) == "model"
    picture = folder / "\x1b[31m\n\u202e.png"
    Image.new("RGB", (9, 8), "red").save(picture)
    (folder / "bad\x1b\n.png").write_bytes(b"hello")
    (line,) = done("predict", "model", picture.name).stdout.splitlines()
    assert line.startswith("\\x1b[31m\\n\\u202e.png\t")
    assert done("predict", "model", "bad\x1b\n.png").returncode == 1
    done("predict", "model", "none\x1b\n*.png")
    done("inspect", "none\x1b\n.h5")
    for each in seen:
        assert not STEERING.search(each.stdout.replace("\n", "") + each.stderr.replace("\n", "")), each
        assert "Traceback" not in each.stderr
        assert "Warning" not in each.stderr
    as_json = json.loads(done("predict", "model", picture.name, "--json").stdout)
    assert as_json["image"] == picture.name
    assert set(as_json["probabilities"]) == set(names)
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "<b>" not in card
    assert not STEERING.search(card.replace("\n", ""))
    assert len(re.findall(r"^\|", card, re.MULTILINE)) == 2 + len(names)


def test_export_of_names_that_the_locale_lacks(tfl, tmp_path):
    """Under a POSIX locale, with Python's own remedies for it switched off."""
    import numpy as np

    folder = tmp_path / "café"
    folder.mkdir()
    arrays = dict(np.load(write_npz(folder / "colours.npz", train=40, test=20)))
    np.savez(folder / "colours.npz", **{**arrays, "class_names": np.array(["Pokémon", "犬", "red"])})
    cache = last_line(tfl("precompute", "--dataset", "café/colours.npz", *SMALL, cwd=tmp_path))
    run = last_line(tfl("train", cache, "--epochs", "1", "--runs-dir", "café", "--name", "Größe", cwd=tmp_path))
    posix = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}

    def start(*arguments):
        command = [sys.executable, "-c", MAIN, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, env={**os.environ, **posix})

    done = start("export", run, "--out", "café/modèle")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[-1] == "café/modèle".encode()
    assert "| Pokémon |" in (folder / "modèle" / "README.md").read_text(encoding="utf-8")
    from PIL import Image

    Image.new("RGB", (9, 8), "red").save(folder / "é.png")
    done = start("predict", "café/modèle", "café/é.png")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"caf\\xe9/\\xe9.png\t")
    assert b"Pok\\xe9mon " in done.stdout
    as_json = json.loads(start("predict", "café/modèle", "café/é.png", "--json").stdout)
    assert as_json["image"] == "café/é.png"
    assert set(as_json["probabilities"]) == {"Pokémon", "犬", "red"}


def test_output_that_nobody_reads_to_its_end(work):
    """`tfl evaluate RUN | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", MAIN, "evaluate", work["run"]]
    done = subprocess.run(command, cwd=work["folder"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_output_that_cannot_be_written(work):
    command = [sys.executable, "-c", MAIN, "evaluate", work["run"]]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=work["folder"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "the operating system refused: [Errno 28]" in done.stderr


def test_a_script_is_its_command(work):
    command = [sys.executable, str(ROOT / "scripts" / "precompute.py"), "--dataset", "colours.npz", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=work["folder"], capture_output=True, text=True, check=False, env=environment)
    assert last_line(done) == work["cache"]
    assert "already there" in done.stderr


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.torch)])
def test_precompute_and_train_without_tensorflow(work, backend):
    pytest.importorskip(backend)
    environment = {**os.environ, "KERAS_BACKEND": backend}

    def start(*arguments):
        command = [sys.executable, "-c", WITHOUT_TENSORFLOW + MAIN, *arguments]
        return subprocess.run(command, cwd=work["folder"], capture_output=True, text=True, check=False, env=environment)

    def run(*arguments):
        return last_line(start(*arguments))

    cache = run("precompute", "--dataset", "colours.npz", *SMALL, "--cache-dir", f"{backend}-cache")
    assert Path(cache).name == Path(work["cache"]).name  # the same fingerprint
    assert run("train", cache, "--epochs", "2").startswith("runs/")
    refused = start("train", cache, "--tensorboard", "--name", "logged")
    assert refused.returncode == 1
    assert "TensorBoard's files need TensorFlow" in refused.stderr
    assert not (work["folder"] / "runs" / "logged").exists(), "refused before the training"


def test_no_chatter_of_a_tensorflow_that_keras_imports_later(work):
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", MAIN, "train", work["cache"], "--epochs", "1"]
    done = subprocess.run(command, cwd=work["folder"], capture_output=True, text=True, check=False, env=environment)
    assert (last_line(done).startswith("runs/"), done.stderr) == (True, "")


def test_help_names_every_command(tfl, work):
    from tfl.cli.commands import COMMANDS

    done = tfl("--help", cwd=work["folder"])
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("environment", "settings", "message"),
    [
        (
            {"KERAS_BACKEND": "nope"},
            "",
            "KERAS_BACKEND names the backend 'nope'; expected one of tensorflow, jax, torch",
        ),
        ({"KERAS_BACKEND": "no\x1bpe"}, "", r"names the backend 'no\\x1bpe'; expected one of"),
        ({"KERAS_BACKEND": "numpy"}, "", "names the backend 'numpy'; expected one of tensorflow, jax, torch"),
        ({}, '{"backend": "nope"}', "keras.json names the backend 'nope'; expected one of tensorflow, jax, torch"),
        ({}, '{"backend": 7}', "keras.json names the backend '7'; expected one of"),
        (
            {},
            '{"floatx": "float8"}',
            r"Keras cannot be imported with the backend tensorflow \(.*keras.json\): .*float8",
        ),
        ({}, "[1]", "Keras cannot be imported with the backend tensorflow"),
        ({"KERAS_MAX_EPOCHS": "many"}, "", "Keras cannot be imported .*many"),
        ({"KERAS_BACKEND": "tensorflow"}, '{"backend": "nope"}', "nothing is not a run folder"),
    ],
)
def test_a_backend_that_cannot_be_is_one_line(tmp_path, environment, settings, message):
    if settings:
        (tmp_path / "keras.json").write_text(settings)
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), **environment}
    command = [sys.executable, "-c", MAIN, "evaluate", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert re.match(f"tfl: .*{message}", done.stderr)


def test_a_backend_that_is_not_installed_is_one_line(tmp_path):
    program = f"""
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find(name, package)
{MAIN}"""
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", program, "evaluate", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    expected = (
        "tfl: KERAS_BACKEND names the backend 'torch', and the package torch is not installed; install it, or set"
    )
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1
