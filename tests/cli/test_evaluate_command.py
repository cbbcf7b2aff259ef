"""`kd evaluate` on files: scores, tables, confidence and mistakes."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu
from metrics.tiny_comet import make_checkpoint

from kd.base.errors import UserError
from kd.cli import main
from kd.cli.evaluate_request import languages_of
from kd.cli.labels import labelled, short

# The example of sacreBLEU's README ("Using SacreBLEU from Python") and its scores.
HYPOTHESES = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]
SOURCES = ["Der Hund biss den Mann.", "Es war nicht überraschend.", "Der Mann hatte ihn gerade gebissen."]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Paths, by name; plain and compressed."""
    worse = ["The dog bit a man.", "", "A man had bitten."]
    texts = {"a.en": HYPOTHESES, "b.en": worse, "r1": REFERENCES[0], "r2": REFERENCES[1], "s.de": SOURCES}
    for name, lines in texts.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    (tmp_path / "a.en.gz").write_bytes(gzip.compress((tmp_path / "a.en").read_bytes()))
    return {path.name: str(path) for path in tmp_path.iterdir() if path.is_file()}


def scores(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main(["evaluate", *arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_scores_are_those_of_sacrebleus_readme(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    found = scores(capsys, "--reference", files["r1"], files["r2"], "--hypothesis", files["a.en"])
    assert [(row["metric"], round(row["score"], 2)) for row in found] == [("BLEU", 48.53), ("chrF2", 59.73)]
    assert all(row["signature"].startswith("nrefs:2|") and "case:mixed" in row["signature"] for row in found)


def test_json_is_a_list_for_programs(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    arguments = ["--reference", files["r1"], files["r2"], "--hypothesis", files["b.en"], files["a.en"]]
    found = scores(capsys, *arguments, "--baseline", files["a.en"], "--metrics", "bleu", "chrf", "chrf++", "ter")
    assert [(row["system"], row["metric"]) for row in found] == [
        (system, metric) for system in ("a.en", "b.en") for metric in ("BLEU", "chrF2", "chrF2++", "TER")
    ]
    for row in found:
        assert list(row) == ["system", "metric", "score", "signature", "ci", "p_value"]
        assert row["ci"][0] <= row["ci"][1]
        assert (row["p_value"] is None) == (row["system"] == "a.en")
        assert "bs:1000|seed:12345" in row["signature"]
    assert found[0]["score"] == sacrebleu.corpus_bleu(HYPOTHESES, REFERENCES).score
    alone = scores(capsys, *arguments, "--test", "randomisation", "--trials", "100", "--baseline", "a.en")
    assert "ar:100" in alone[0]["signature"]
    assert [row["ci"] for row in scores(capsys, *arguments, "--resamples", "0")] == [None] * 4


def test_compressed_files_are_read_as_they_are(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    plain = scores(capsys, "--reference", files["r1"], "--hypothesis", files["a.en"])
    packed = scores(capsys, "--reference", files["r1"], "--hypothesis", files["a.en.gz"])
    assert [{**row, "system": ""} for row in plain] == [{**row, "system": ""} for row in packed]


def test_pipes_are_read(files: dict[str, str]) -> None:
    command = "from kd.cli import main; import sys; sys.exit(main())"
    pipes = f"--reference <(cat {files['r1']}) --hypothesis <(zcat {files['a.en.gz']})"
    call = f"{sys.executable} -c '{command}' evaluate {pipes} --resamples 0 --json -"
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True)
    bleu, _ = json.loads(done.stdout)
    assert bleu["score"] == sacrebleu.corpus_bleu(HYPOTHESES, REFERENCES[:1]).score


def test_tables_are_written_as_markdown_and_latex(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    arguments = ["--reference", files["r1"], "--hypothesis", f"my_[best]|&={files['a.en']}", files["b.en"]]
    outputs = ["--markdown", str(tmp_path / "t.md"), "--latex", str(tmp_path / "t.tex")]
    assert main(["evaluate", *arguments, "--baseline", "b.en", *outputs]) == 0
    printed = capsys.readouterr()
    assert "b.en: 1 of 3 lines are empty; they are scored as empty text." in printed.err
    bleu = sacrebleu.corpus_bleu(HYPOTHESES, REFERENCES[:1]).score
    signature = f"tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    markdown, latex = (tmp_path / "t.md").read_text(), (tmp_path / "t.tex").read_text()
    for text in (printed.out, markdown, latex):
        assert f"{bleu:.1f}" in text
        assert "1,000 bootstrap resamplings, seed 12345" in text
        explained = "how likely a difference from b.en this large would be" in " ".join(text.replace("\\", "").split())
        assert explained == (text != latex)  # which has daggers in place of p
        assert "paired bootstrap resampling" in text
    assert "tested against b.en; paired bootstrap" in latex
    assert f"Wrote {tmp_path / 't.md'}.\nWrote {tmp_path / 't.tex'}.\n" in printed.out
    assert signature in printed.out
    assert "my_[best]|&" in printed.out  # rich's markup is text
    assert "| my\\_\\[best\\]\\|& | **" in markdown
    assert len({line.count(" | ") for line in markdown.split("\n")[:4]}) == 1
    assert "my\\_[best]\\textbar\\allowbreak{}\\& & \\textbf{" in latex
    assert "\\toprule" in latex and signature in latex  # whole, in the comment


def test_a_latex_table_without_significant_differences_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    copy = shutil.copy(files["a.en"], tmp_path / "copy.en")
    arguments = ["evaluate", "--reference", files["r1"], "--hypothesis", f"one={files['a.en']}", f"two={copy}"]
    assert main([*arguments, "--baseline", "one", "--latex", "-"]) == 0
    assert "No difference from one has p \\textless{} 0.05." in capsys.readouterr().out


def test_several_systems_without_a_baseline_are_told_how_to_be_tested(
    capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    arguments = ["evaluate", "--reference", files["r1"], "--hypothesis", f"one={files['a.en']}", files["b.en"]]
    assert main(arguments) == 0
    assert "For p-values, add --baseline one." in capsys.readouterr().out
    assert main([*arguments, "--baseline", "one"]) == 0
    assert "--baseline" not in capsys.readouterr().out
    assert main([*arguments[:-1], "--resamples", "100"]) == 0  # one system
    assert "--baseline" not in capsys.readouterr().out


def test_language_chooses_the_tokeniser(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    arguments = ["--reference", files["r1"], "--hypothesis", files["a.en"], "--metrics", "bleu", "--resamples", "0"]
    for language in (["--language", "zh-Hans"], ["--language", "zh_CN"], ["--language-pair", "en-zh-CN"]):
        assert "tok:zh" in scores(capsys, *arguments, *language)[0]["signature"]
    assert "tok:13a" in scores(capsys, *arguments, "--language", "de")[0]["signature"]
    assert "tok:char" in scores(capsys, *arguments, "--language", "zh", "--tokenize", "char")[0]["signature"]


@pytest.mark.parametrize(
    ("pair", "languages"),
    [
        ("en-de", ("en", "de")),
        ("en-pt-BR", ("en", "pt-BR")),
        ("zh-Hant-TW-en", ("zh-Hant-TW", "en")),
        ("sr-Latn-es-419", ("sr-Latn", "es-419")),
        ("en-zh_CN", ("en", "zh_CN")),
        ("EN-DE", ("EN", "DE")),
        ("", ("", "")),
    ],
)
def test_a_language_pair_is_split_with_regions_and_scripts(pair: str, languages: tuple[str, str]) -> None:
    assert languages_of(pair) == languages


def test_weaknesses_worst_segments_and_segment_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    arguments = ["--source", files["s.de"], "--reference", files["r1"], "--hypothesis", files["a.en"], files["b.en"]]
    places = ["--segments", str(tmp_path / "s.jsonl"), "--details", str(tmp_path / "d.json")]
    shown = ["--weaknesses", "--worst", "1", "--baseline", "a.en", "--language", "en"]
    assert main(["evaluate", *arguments, *places, *shown]) == 0
    out = capsys.readouterr().out
    assert "line 1: b.en " in out and "a.en 100.0" in out and "By words of the reference" in out
    details = json.loads((tmp_path / "d.json").read_text())
    assert details["weaknesses"]["b.en"]["empty"] == 1
    assert [(item["system"], item["segment"]) for item in details["worst"]] == [("b.en", 1)]
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().removesuffix("\n").split("\n")]
    assert len(rows) == 6
    assert rows[0]["chrF2"] == sacrebleu.sentence_chrf(HYPOTHESES[0], REFERENCES[0][:1]).score
    assert main(["evaluate", *arguments, "--segments", str(tmp_path / "s.tsv"), "--resamples", "0"]) == 0
    table = [line.split("\t") for line in (tmp_path / "s.tsv").read_text().removesuffix("\n").split("\n")]
    assert table[0] == ["system", "segment", "BLEU", "chrF2"]
    assert [float(cell) for cell in table[1][2:]] == [rows[0]["BLEU"], rows[0]["chrF2"]]


def test_comet_scores_segments_and_uses_its_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    """That its scores are unbabel-comet's is asserted in tests/metrics/test_comet.py."""
    kinds = {"comet": "regression_metric", "qe": "referenceless_regression_metric"}
    text = [line for lines in (*REFERENCES, HYPOTHESES, SOURCES) for line in lines]
    for name, kind in kinds.items():
        make_checkpoint(tmp_path / name, text * 20, kind)
    models = ["--comet-model", str(tmp_path / "comet"), str(tmp_path / "qe")]
    arguments = ["--source", files["s.de"], "--hypothesis", files["a.en"], files["b.en"]]
    found = scores(capsys, *arguments, "--reference", files["r1"], *models, "--baseline", "b.en")
    assert [row["metric"] for row in found[:4]] == ["BLEU", "chrF2", "COMET", "COMET-QE"]
    judged = found[6]
    assert (judged["system"], judged["metric"]) == ("a.en", "COMET")
    assert judged["signature"].startswith("nrefs:1|bs:1000|seed:12345|model:comet|sha256:")
    assert 0 <= judged["p_value"] <= 1 and set(judged["bootstrap"]) == {"wins", "losses", "ties"}
    assert (tmp_path / "cache" / "kd" / "comet.sqlite").is_file()

    alone = scores(capsys, *arguments, "--comet-model", str(tmp_path / "qe"), "--no-cache")  # no reference at all
    assert [row["metric"] for row in alone] == ["COMET-QE", "COMET-QE"]
    assert alone[0]["score"] == pytest.approx(found[7]["score"], abs=1e-6)
    places = ["--markdown", str(tmp_path / "t.md"), "--segments", str(tmp_path / "s.tsv")]
    assert main(["evaluate", *arguments, "--metrics", "comet", *models[:2], "--reference", files["r1"], *places]) == 0
    assert f"{found[2]['score']:.4f}" in (tmp_path / "t.md").read_text()
    assert (tmp_path / "s.tsv").read_text().startswith("system\tsegment\tCOMET\n")
    for wrong, told in [
        (["--comet-model", str(tmp_path / "comet")], "The COMET model comet reads a reference"),
        (["--metrics", "bleu", "--reference", files["r1"], *models], "comet is not among the metrics"),
    ]:
        assert main(["evaluate", *arguments, *wrong]) == 2
        assert told in capsys.readouterr().err
    assert main(["evaluate", *arguments[2:], *models[:2], "--reference", files["r1"]]) == 2
    assert "COMET reads the source as well" in capsys.readouterr().err


def test_tables_omit_the_common_beginning_of_names() -> None:
    names = [f"newstest2021.en-de.hyp.{system}.de" for system in ("UEdin", "UU", "eTranslation")]
    shown, common = short(names)
    assert (list(shown.values()), common) == (["UEdin.de", "UU.de", "eTranslation.de"], "newstest2021.en-de.hyp.")
    for kept in (["a.de", "ab.de"], ["one.system.alone.de"]):
        assert short(kept) == ({name: name for name in kept}, "")


def test_hypotheses_are_named_by_the_unique_end_of_their_paths(tmp_path: Path) -> None:
    for place in ("x/1/out.de", "x/2/out.de", "x/y=z.de"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("a\n")
    one, two, odd = (str(tmp_path / place) for place in ("x/1/out.de", "x/2/out.de", "x/y=z.de"))
    assert list(labelled([one, two])) == ["1/out.de", "2/out.de"]
    assert list(labelled([one, odd])) == ["out.de", "y=z.de"]  # a file of that name goes before NAME=PATH
    assert list(labelled([two, f"best={one}"])) == ["out.de", "best"]
    for wrong, message in [
        ([one, one], "is given twice"),
        ([one, f"again={tmp_path}/x/../x/1/out.de"], "is given twice"),
        ([f"a={one}", f"a={two}"], "Two hypotheses are called a"),
        ([one, f"out.de={two}"], r"Two hypotheses are called out\.de"),
    ]:
        with pytest.raises(UserError, match=message):
            labelled(wrong)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--reference", "r1", "--hypothesis", "a.en", "--baseline", "c.en"], "c.en is not among the hypotheses"),
        (["--reference", "r1", "--hypothesis", "a.en", "--metrics", "bleurt"], "There is no metric 'bleurt'"),
        (["--reference", "r1", "--hypothesis", "a.en", "--metrics", "comet"], "COMET needs a model"),
        (["--reference", "r1", "--hypothesis", "a.en", "--tokenize", "moses"], "There is no tokeniser 'moses'"),
        (["--reference", "r1", "--hypothesis", "missing"], "missing does not exist"),
        (["--reference", "r1", "--hypothesis", "short"], "short has 2 lines"),
        (["--reference", "r1", "short", "--hypothesis", "a.en"], "short has 2 lines"),
        (["--source", "short", "--reference", "r1", "--hypothesis", "a.en"], "short has 2 lines"),
        (["--hypothesis", "a.en"], "There is no reference"),
        (["--hypothesis", "a.en", "--metrics", "bleu"], "bleu needs a reference"),
        (["--reference", "r1", "--hypothesis", "a.en", "--worst", "3"], "--worst needs a baseline to compare with"),
        (
            ["--reference", "r1", "--hypothesis", "a.en", "--seed", "0"],
            "seed of the resampling must be at least 1, got 0",
        ),
        (["--reference", "r1", "--hypothesis", "a.en", "--json", "r1/out.json"], "cannot be written"),
        (["--reference", "r1", "--hypothesis", "a.en", "--json", "no/x.json"], "there is no folder {}/no"),
        (["--reference", "r1", "--hypothesis", "a.en", "--segments", "no/x.tsv"], "there is no folder {}/no"),
        (["--test-set", "wmt21/c", "--language-pair", "en-de", "--hypothesis", "a.en"], "Did you mean wmt21/"),
        (["--test-set", "wmt21/C", "--language-pair", "en-sv", "--hypothesis", "a.en"], "has no en-sv"),
        (["--test-set", "wmt21/C", "--hypothesis", "a.en"], "needs a language pair"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], told: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "short").write_text("one\ntwo\n")
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    printed = capsys.readouterr()
    assert told.format(tmp_path) in printed.err and printed.err.count("\n") == 1
    assert not (tmp_path / "no").exists()
    if "short has 2" in told:
        assert "3" in printed.err  # both counts


def test_a_test_set_of_sacrebleu_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    """As sacreBLEU keeps it after it was fetched; a set that is not here says so in a sentence."""
    import urllib.request

    def no_network(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    for module in ("sacrebleu.utils", "sacrebleu.dataset.base"):
        monkeypatch.setattr(f"{module}.SACREBLEU_DIR", str(tmp_path), raising=False)
    arguments = ["evaluate", "--test-set", "wmt21/C", "--language-pair", "en-de", "--hypothesis", files["a.en"]]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "could not be downloaded: no route to host" in told and "copy ~/.sacrebleu" in told
    monkeypatch.setattr("sacrebleu.utils.get_source_file", lambda *_: files["s.de"])
    monkeypatch.setattr("sacrebleu.utils.get_reference_files", lambda *_: [files["r1"], files["r2"]])
    assert main([*arguments, "--resamples", "0", "--metrics", "bleu", "--json", "-"]) == 0
    assert round(json.loads(capsys.readouterr().out)[0]["score"], 2) == 48.53


def test_the_options_of_sacrebleu_are_aliases(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    systems, references = [files["a.en"], files["b.en"]], [files["r1"], files["r2"]]
    own = scores(capsys, "--reference", *references, "--hypothesis", *systems, "--metrics", "bleu", "ter",
                 "--baseline", systems[0], "--resamples", "100", "--language", "en")  # fmt: skip
    theirs = scores(capsys, *references, "-i", *systems, "-m", "bleu", "ter", "-l", "de-en", "--paired-bs",
                    "--paired-bs-n", "100")  # fmt: skip
    assert theirs == own
    assert [row["p_value"] is None for row in theirs] == [True, True, False, False]  # the first is the baseline
    randomised = scores(capsys, *references, "-i", *systems, "-m", "bleu", "--paired-ar", "--paired-ar-n", "50")
    assert "ar:50" in randomised[0]["signature"]


def test_blank_lines_in_references_are_reported_and_left_out_of_counts(
    capsys: pytest.CaptureFixture[str], files: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "partial").write_text(f"{REFERENCES[1][0]}\n\n\n", "utf-8")
    given = ["--source", files["s.de"], "--hypothesis", files["b.en"], "--weaknesses", "--json", str(tmp_path / "json")]
    details = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(["evaluate", *given, "--reference", files["r1"], "--details", details[0]]) == 0
    assert "partial" not in capsys.readouterr().err
    both = ["--reference", files["r1"], str(tmp_path / "partial")]
    assert main(["evaluate", *given, *both, "--details", details[1]]) == 0
    assert "partial: 2 of 3 lines are empty. COMET and the counts leave out" in capsys.readouterr().err
    empty = [json.loads(Path(place).read_text())["weaknesses"]["b.en"]["empty"] for place in details]
    assert empty == [1, 1]  # the second hypothesis is empty, and its second reference does not excuse it


def test_chinese_references_without_a_language_are_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("zh.ref", "zh.hyp"):
        (tmp_path / name).write_text("今天天气很好。\n我们去公园。\n", "utf-8")
    files = ["--reference", str(tmp_path / "zh.ref"), "--hypothesis", str(tmp_path / "zh.hyp"), "--resamples", "0"]
    assert main(["evaluate", *files]) == 0
    assert "BLEU tokenises by 13a. Add --language zh, ja or ko." in capsys.readouterr().err
    for code in ("zh", "zho_Hans", "cmn"):
        [bleu, _] = scores(capsys, *files, "--language", code)
        assert bleu["score"] == pytest.approx(100) and "tok:zh" in bleu["signature"]
