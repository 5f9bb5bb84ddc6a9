"""csv and tsv: what Python's csv module reads, and what is refused."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    Output,
    bytes_of,
    check_place,
    convert_log,
    csv_rows,
    cut_into,
    fresh_folder,
    log_of,
)

TEXT = {"a": ("string", None), "b": ("string", None)}
HEADER = "click,a,b\n"


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """A function that ingests one file of text, or of bytes."""

    def convert(data: str | bytes, format: str = "csv", **kw: Any) -> Output:
        path = tmp_path / f"log.{format}"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        options = {
            name: kw.pop(name)
            for name in ("columns", "header", "delimiter", "quote")
            if name in kw
        }
        names = kw.pop("names", TEXT)
        log = log_of(path, format, **options, **kw.pop("log", {}))
        folder = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        return convert_log(folder, log, names, **kw)

    return convert


Pair = tuple[str | None, str | None]


def pairs(output: Output) -> list[Pair]:
    return ordered([(row["a"], row["b"]) for row in output.kept])


def ordered(found: list[Pair]) -> list[Pair]:
    return sorted(found, key=str)


def test_names_come_from_the_header_in_any_order(read: Any) -> None:
    output = read("b,x,click,a\n1,2,1,3\n")
    assert output.kept == [{"a": "3", "b": "1", "label": 1}]


def test_names_come_from_the_config_without_a_header(read: Any) -> None:
    output = read("0,x,y\n1,z,\n", columns=["click", "a", "b"])
    assert pairs(output) == [("x", "y"), ("z", None)]


def test_a_header_is_skipped_where_the_config_names_the_columns(
    read: Any,
) -> None:
    data = "c:int,a:str,b:str\n0,x,y\n"
    output = read(data, columns=["click", "a", "b"], header=True)
    assert pairs(output) == [("x", "y")]
    assert output.counts["read"] == 1


@pytest.mark.parametrize("header", [True, False])
def test_a_byte_order_mark_is_no_part_of_the_first_cell(
    read: Any, header: bool
) -> None:
    rows = "x,0,y\nz,q,w\n"
    options: Any = {} if header else {"columns": ["a", "click", "b"]}
    data = "\ufeff" + ("a,click,b\n" if header else "") + rows
    output = read(data, **options)
    assert pairs(output) == [("x", "y")]
    check_place(output.rejected[0])


def test_a_byte_order_mark_later_in_the_file_is_text(read: Any) -> None:
    data = "a,click,b\nx,0,y\n\ufeffx,0,y\n"
    for block in (1, 1000):
        with cut_into(1000, block):
            assert pairs(read(data)) == ordered([("x", "y"), ("\ufeffx", "y")])


def test_crlf_ends_a_line_as_lf_does(read: Any) -> None:
    output = read("click,a,b\r\n0,x,y\r\n1,z,\r\n\r\n7,z,w\r\n")
    assert pairs(output) == [("x", "y"), ("z", None)]
    check_place(output.rejected[0])
    assert bytes_of(output.rejected[0]) == b"7,z,w"


def test_the_last_line_needs_no_end(read: Any) -> None:
    assert pairs(read(HEADER + "0,x,y\n1,z,w")) == [("x", "y"), ("z", "w")]
    assert pairs(read(HEADER + "0,x,y\n1,z,w\r")) == [("x", "y"), ("z", "w")]


def test_empty_lines_are_no_rows_wherever_they_are(read: Any) -> None:
    output = read("\n\r\n" + HEADER + "\n0,x,y\n\n\n1,z,w\n\n")
    assert pairs(output) == [("x", "y"), ("z", "w")]
    assert output.counts["read"] == 2


def test_quotes_hide_delimiters_and_double_inside(read: Any) -> None:
    output = read(HEADER + '0,"x,1","say ""hi"""\n"1","",""\n')
    assert pairs(output) == [("x,1", 'say "hi"'), (None, None)]


def test_a_quote_inside_a_cell_is_text(read: Any) -> None:
    output = read(HEADER + '0,5" screen,y\n1,a"b"c,d"\n')
    assert pairs(output) == [('5" screen', "y"), ('a"b"c', 'd"')]


def test_tsv_takes_quotes_as_text(read: Any) -> None:
    output = read('click\ta\tb\n0\t"x\ty"\n', "tsv")
    assert pairs(output) == [('"x', 'y"')]


def test_tsv_takes_quotes_as_quotes_where_the_config_says_so(
    read: Any,
) -> None:
    output = read("click\ta\tb\n0\t'x\t1'\ty\n", "tsv", quote="'")
    assert pairs(output) == [("x\t1", "y")]


@pytest.mark.parametrize("delimiter", [";", "|", "\x01", " "])
def test_other_delimiters(read: Any, delimiter: str) -> None:
    data = f"{HEADER}0,x,y\n".replace(",", delimiter)
    assert pairs(read(data, delimiter=delimiter)) == [("x", "y")]


@pytest.mark.parametrize("sizes", [(9, 3), (20, 7), (1000, 1000)])
def test_a_quoted_cell_may_go_on_over_lines(
    read: Any, sizes: tuple[int, int]
) -> None:
    with cut_into(*sizes):
        output = read(
            HEADER
            + '0,x,y\n1,"z\n\n2",w\n0,p,"q\r\n""0"",,\n"\n7,"a\nb",c\n1,,\n'
        )
    assert pairs(output) == ordered(
        [("x", "y"), ("z\n\n2", "w"), ("p", 'q\r\n"0",,\n'), (None, None)]
    )
    assert [bytes_of(row) for row in output.rejected] == [b'7,"a\nb",c']
    check_place(output.rejected[0])


@pytest.mark.parametrize("many", [1, 20_000])
@pytest.mark.parametrize("kind", ["plain", "zipped"])
def test_a_stray_quote_costs_one_line(read: Any, many: int, kind: str) -> None:
    good = '0,"say ""hi""",y\n1,5" x,"z"\n' * many
    data = HEADER + good + '0,"x,y\n' + good
    with cut_into(300_000, 50_000):
        output = read(
            gzip.compress(data.encode()) if kind == "zipped" else data
        )
    assert len(output.kept) == 4 * many
    assert [bytes_of(row) for row in output.rejected] == [b'0,"x,y']


def test_a_row_over_lines_has_a_greatest_length(read: Any) -> None:
    inside = "line\n" * 60_000
    data = f'{HEADER}0,"{inside}",y\n1,z,w\n'
    with cut_into(50_000, 9_000):
        output = read(data)
    assert pairs(output) == [("z", "w")]
    assert len(output.rejected) == 60_001


@pytest.mark.parametrize("line", ['0,x,"', '0,a"b,"c', '","', '0,x,"y'])
def test_open_quotes_in_every_line_take_no_time(read: Any, line: str) -> None:
    output = read(HEADER + f"{line}\n" * 20_000)
    assert output.counts["read"] in (10_000, 20_000)


def test_an_escape_takes_the_meaning_of_the_next_character(read: Any) -> None:
    output = read(
        HEADER
        + '0,"say \\"hi\\"",a\\,b\n1,"back\\\\",""""\n0,"a\nb\\"",c\n1,x,y\\\n',
        log={"escape": "\\"},
    )
    assert pairs(output) == ordered(
        [('say "hi"', "a,b"), ("back\\", '"'), ('a\nb"', "c")]
    )
    assert [bytes_of(row) for row in output.rejected] == [b"1,x,y\\"]


def test_an_escape_needs_no_quotes(read: Any) -> None:
    output = read(
        "click\ta\tb\n0\tx\\\ty\tz\n0\tx\ty\\\n1\tp\tq\n",
        "tsv",
        log={"escape": "\\"},
    )
    assert pairs(output) == ordered([("x\ty", "z"), ("p", "q")])
    assert output.reasons == ["an escape at the end of the line"]


def test_an_open_quote_never_takes_in_other_rows(read: Any) -> None:
    # The first quote is text; the second opens, and is never closed.
    output = read(HEADER + '0,a"b,"c\n0,x,y\n1,"z",w\n')
    assert pairs(output) == [("x", "y"), ("z", "w")]
    assert [bytes_of(row) for row in output.rejected] == [b'0,a"b,"c']


@pytest.mark.parametrize("end", ["", "\n"])
def test_an_open_quote_in_the_last_line_is_refused(read: Any, end: str) -> None:
    output = read(HEADER + '0,x,y\n0,x,"y' + end)
    assert pairs(output) == [("x", "y")]
    assert "quote" in output.reasons[0]


def test_a_carriage_return_inside_a_line_is_refused(read: Any) -> None:
    output = read(HEADER + '0,x,y\n0,x\ry,z\n1,"p\rq",r\n1,z,w\n')
    assert pairs(output) == [("x", "y"), ("z", "w")]
    assert output.reasons == ["a carriage return inside the line"] * 2
    for row in output.rejected:
        check_place(row)


def test_wrong_numbers_of_columns_are_refused(read: Any) -> None:
    output = read(HEADER + "0,x\n1,x,y,z\n0,x,y\n1\n")
    assert pairs(output) == [("x", "y")]
    assert output.reasons == [
        "2 columns instead of 3",
        "4 columns instead of 3",
        "1 columns instead of 3",
    ]


def test_bytes_that_are_not_utf8_are_refused_where_they_are_read(
    read: Any,
) -> None:
    data = b"click,a,b,c\n0,x\xff,y,\n0,x,y,\xff\n0,x,\xc3\xa9,\n"
    output = read(data)
    assert pairs(output) == [("x", "y"), ("x", "é")]
    assert output.reasons == ["column a: not UTF-8"]
    assert bytes_of(output.rejected[0]) == b"0,x\xff,y,"


def test_nul_bytes_are_text_in_text_and_refused_in_numbers(read: Any) -> None:
    output = read(
        HEADER + "0,x\0y,1\n0,x,1\0\n",
        names={"a": ("string", None), "b": ("float", None)},
    )
    assert [(r["a"], r["b"]) for r in output.kept] == [("x\0y", 1.0)]
    assert output.reasons == ["column b: not a number"]


def test_other_words_for_missing(read: Any) -> None:
    output = read(
        HEADER + "0,\\N,1\n0,NULL,\\N\n0,NULLS,2\n",
        log={"null_values": ["\\N", "NULL"]},
        names={"a": ("string", None), "b": ("float", None)},
    )
    assert {(r["a"], r["b"]) for r in output.kept} == {
        (None, 1.0),
        (None, None),
        ("NULLS", 2.0),
    }


def test_one_column_alone(read: Any) -> None:
    output = read("click\n1\n\n0\n", names={})
    assert output.counts["read"] == 2
    assert sorted(output.column("label")) == [0, 1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"click,x\n0,1\n", "no column 'a'. Its columns: click, x"),
        (b"click,a,b,a\n0,1,2,3\n", "column 'a' is named twice"),
        (b"click,a,b\xff\n0,1,2\n", "the header is not UTF-8"),
        (b'click,a,"b\n0,1,2\n', "the header cannot be read"),
        (b"a\rb\n0,1,2\n", "the header cannot be read"),
    ],
)
def test_a_bad_header_is_an_error_with_the_files_name(
    read: Any, data: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=r"log\.csv: ") as error:
        read(data)
    assert message in str(error.value)


def test_a_log_of_empty_files_is_an_error(read: Any) -> None:
    with pytest.raises(InputError, match=r"log\.csv: every file is empty"):
        read("")


@pytest.mark.parametrize("data", ["\ufeff", "\n\n", "\ufeff\r\n", HEADER])
def test_a_file_without_rows_has_no_rows(read: Any, data: str) -> None:
    output = read(data)
    assert output.kept == output.rejected == []


CELLS = st.text(st.sampled_from("ab\"',;\t \u00e9\u2028\ufeff\0\\"), max_size=6)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from(",;|"),
    zipped=st.booleans(),
    sizes=st.sampled_from([(16, 1), (40, 7), (1000, 1000)]),
)
def test_what_pythons_csv_writes_is_read_back(
    rows: list[Pair],
    quoting: Any,
    end: str,
    delimiter: str,
    zipped: bool,
    sizes: tuple[int, int],
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, quoting=quoting, lineterminator=end, delimiter=delimiter
    )
    writer.writerows([("click", "a", "b"), *((1, *row) for row in rows)])
    data = text.getvalue().encode()
    with fresh_folder() as folder, cut_into(*sizes):
        (folder / "log").write_bytes(gzip.compress(data) if zipped else data)
        log = log_of(folder / "log", "csv", delimiter=delimiter)
        output = convert_log(folder / "out", log, TEXT)
    assert output.rejected == []
    assert pairs(output) == ordered([(a or None, b or None) for a, b in rows])


PIECES = st.sampled_from(["0", "a", '"', '""', ",", "\r", '"b",', ',"c,d"'])
LINES = st.one_of(
    st.lists(PIECES, min_size=1, max_size=6).map("".join),
    st.lists(PIECES, max_size=5).map(lambda pieces: "1,x" + "".join(pieces)),
    st.lists(PIECES, max_size=3).map(lambda pieces: '0,"",' + "".join(pieces)),
    st.sampled_from(['1,x,"y', 'z"', '0,"p', '",q', "", 'a",b', '1,"a"","b']),
)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(LINES, min_size=1, max_size=8),
    sizes=st.sampled_from([(16, 1), (7, 5), (1000, 1000)]),
)
def test_each_row_is_read_as_pythons_csv_reads_it(
    lines: list[str], sizes: tuple[int, int]
) -> None:
    with fresh_folder() as folder, cut_into(*sizes):
        path = folder / "log.csv"
        path.write_text("\n".join(lines) + "\n", newline="")
        log = log_of(path, "csv", columns=["click", "a", "b"])
        output = convert_log(folder / "out", log, TEXT)
        for row in output.rejected:
            check_place(row)
    rows = csv_rows(lines, 3)
    good = [cells and cells[0] in ("0", "1") for _, cells in rows]
    assert pairs(output) == ordered(
        [
            (cells[1] or None, cells[2] or None)
            for (_, cells), fine in zip(rows, good, strict=True)
            if cells and fine
        ]
    )
    assert [bytes_of(row).decode() for row in output.rejected] == [
        text for (text, _), fine in zip(rows, good, strict=True) if not fine
    ]


def test_a_delimiter_of_several_characters(read: Any) -> None:
    # As the best-known ratings file has it.
    data = "1::Toy Story (1995)::5\n0::GoldenEye: 007::3\n1::a:::b\n0::c\n"
    output = read(data, columns=["click", "a", "b"], delimiter="::", quote="'")
    assert pairs(output) == [
        ("GoldenEye: 007", "3"),
        ("Toy Story (1995)", "5"),
        ("a", ":b"),
    ]
    assert output.reasons == ["2 columns instead of 3"]
    check_place(output.rejected[0])


def test_a_header_quotes_and_words_with_a_delimiter_of_several(
    read: Any,
) -> None:
    words = {"null_values": ["", "N::A"]}
    data = 'click::a::"b::c"\n1::"x::y"::z\n0::"p\nq"::\x1f\n1::::"N::A"\n'
    names = {"a": ("string", None), "b::c": ("string", None)}
    output = read(data, delimiter="::", names=names, log=words)
    assert output.rejected == []
    found = [(row["a"], row["b::c"]) for row in output.kept]
    assert ordered(found) == [("p\nq", "\x1f"), ("x::y", "z"), (None, None)]
    data = "click::a::b\n1::x::N::A\n0::x::y\n"
    output = read(data, delimiter="::", log=words)
    assert output.reasons == ["4 columns instead of 3"]
    assert pairs(output) == [("x", "y")]


LONG = st.lists(
    st.lists(
        st.text(st.sampled_from("ab:,| é\x1f\x1e"), max_size=5).filter(
            lambda cell: cell.strip() and not cell.startswith(":")
            # Else where it begins is told by the delimiter before it.
        ),
        min_size=2,
        max_size=2,
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=80, deadline=None)
@given(
    rows=LONG,
    delimiter=st.sampled_from(["::", "||", ", ", ":|:", "aab"]),
    format=st.sampled_from(["csv", "tsv"]),
    sizes=st.sampled_from([(16, 1), (40, 7), (1000, 1000)]),
)
def test_a_long_delimiter_splits_as_python_splits(
    rows: list[list[str]], delimiter: str, format: str, sizes: tuple[int, int]
) -> None:
    lines = [delimiter.join(["1", *cells]) for cells in rows]
    with fresh_folder() as folder, cut_into(*sizes):
        path = folder / "log"
        path.write_text("".join(f"{line}\n" for line in lines), newline="")
        columns = ["click", "a", "b"]
        log = log_of(path, format, columns=columns, delimiter=delimiter)
        output = convert_log(folder / "out", log, TEXT)
        for row in output.rejected:
            check_place(row)
    split = [line.split(delimiter) for line in lines]
    good = [cells for cells in split if len(cells) == 3 and cells[0] == "1"]
    assert pairs(output) == ordered(
        [(cells[1] or None, cells[2] or None) for cells in good]
    )
    assert len(output.rejected) == len(lines) - len(good)
