from pathlib import Path

import pytest

from tfl.cache import inspect, list_overviews
from tfl.errors import CacheError, RunError, SpecError
from tfl.files.paths import expand_user, expand_user_text, parse_path, require_no_file
from tfl.specs import Settings


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_home_folder_is_expanded_once(home):
    assert expand_user("~/cache") == expand_user(Path("~/cache")) == home / "cache"
    assert expand_user("~") == home
    assert expand_user_text("~/*.jpg") == f"{home}/*.jpg"


def test_an_unknown_user_has_no_home_and_makes_no_folder(home):
    message = (
        r"no home folder is known for ~nosuchuser, got ~nosuchuser/a; for a file of that name write ./~nosuchuser/a"
    )
    with pytest.raises(SpecError, match=message):
        expand_user("~nosuchuser/a")
    Path("~$draft.h5").write_bytes(b"")
    assert expand_user("~$draft.h5") == Path("~$draft.h5")
    assert expand_user_text("~nosuchuser/*.jpg") == "~nosuchuser/*.jpg"


@pytest.mark.parametrize("name", ["~", "~/a", "~nosuchuser"])
def test_a_folder_called_so_is_expanded_as_often_as_one_likes(home, name):
    found = parse_path(f"./{name}")
    assert found == Path.cwd() / name
    assert Settings(cache_dir=expand_user(found)).cache_dir == found


def test_an_empty_path_is_refused():
    with pytest.raises(SpecError, match="a path is empty; this folder is ."):
        parse_path("")
    assert parse_path(".") == Path()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    require_no_file(tmp_path / "none" / "none")
    for path in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(SpecError, match=f"{path} is not a folder: {tmp_path}/file is a file"):
            require_no_file(path)


def test_settings_and_readers_expand(home):
    assert Settings(cache_dir=Path("~/cache")).cache_dir == home / "cache"
    assert list_overviews(Path("~/cache")) == []
    with pytest.raises(CacheError, match=f"there is no cache file {home}/a.h5"):
        inspect(Path("~/a.h5"))


def test_the_python_api_expands_every_path(home, tmp_path, tiny_backbone, features, dataset):
    from tfl.artefacts.export import export
    from tfl.extraction.precompute import precompute
    from tfl.runs.evaluation import evaluate
    from tfl.runs.folder import remove_run
    from tfl.runs.listing import list_runs
    from tfl.runs.training import train

    cache = precompute(features, dataset, Settings(engine="keras", cache_dir=Path("~/cache")))
    assert cache.parent == home / "cache"
    run = train(Path("~/cache") / cache.name, runs_dir=Path("~/runs"), name="a")
    assert run == home / "runs" / "a"
    assert evaluate(Path("~/runs/a")).num_rows == 40
    export(Path("~/runs/a"), Path("~/model"))
    assert (home / "model" / "README.md").is_file()
    assert [each.name for each in list_runs(Path("~/runs"))] == ["a"]
    remove_run(Path("~/runs/a"))
    assert not run.exists()
    with pytest.raises(RunError, match=f"{home}/runs/a is not a run folder"):
        evaluate(Path("~/runs/a"))
    assert not (tmp_path / "~").exists()


def test_the_command_line_expands_every_path(home, capsys):
    from tfl.cli.main import main

    for arguments in (
        ["caches", "--cache-dir", "~/none"],
        ["caches", "--cache-dir=~/none"],
    ):
        assert main(arguments) == 0
        assert f"no caches in {home}/none" in capsys.readouterr().out
    for command in ("inspect", "verify"):
        assert main([command, "~/none.h5"]) == 1
        assert capsys.readouterr().err == f"tfl: there is no cache file {home}/none.h5\n"
    assert main(["predict", "~/model", "~/none/*.jpg"]) == 1
    assert f"no image matches {home}/none/*.jpg" in capsys.readouterr().err


def test_errors_of_paths_on_the_command_line(home, capsys):
    from tfl.cli.main import main

    (home / "file").write_bytes(b"")
    for arguments, message in (
        (["inspect", "~nosuchuser/c.h5"], "no home folder is known for ~nosuchuser"),
        (["caches", "--cache-dir", "~nosuchuser"], "no home folder is known for ~nosuchuser"),
        (["caches", "--cache-dir", "~/file"], f"{home}/file is not a folder: {home}/file is a file"),
        (["verify", ""], "a path is empty; this folder is ."),
        (["predict", "model", ""], "an image's path is empty; all images of this folder are ."),
        (["inspect", "a\0b"], "an argument has a NUL character, which no name can have: a\\x00b"),
    ):
        assert main(arguments) == 2, arguments
        written = capsys.readouterr()
        assert (written.out, written.err.count("\n")) == ("", 1)
        assert written.err.startswith(f"tfl: {message}")
