"""Row files: what the usual readers get wrong, and what a broken file says."""

from __future__ import annotations

import csv
import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import write

from crossenc_kit.data.tables import MalformedLines, first_line, read_csv, read_jsonl, read_table, read_tsv
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl

# Eight rows, of which the second opens a quote that only the fifth closes.
STRAY_QUOTES = (
    "sentence1\tsentence2\tscore\n"
    "A cat sleeps.\tA cat naps.\t4.5\n"
    '"Well, he left.\tHe left.\t4.0\n'
    "A dog barks.\tA dog is silent.\t0.5\n"
    "It rains.\tIt pours.\t3.0\n"
    '"Go on," she said.\tShe told him to go on.\t3.5\n'
    'A 5" disk.\tA small disk.\t3.0\n'
    "They eat.\tThey dine.\t4.0\n"
    "He runs.\tShe swims.\t0.0\n"
)


def rows_of(found):
    return [row for _, row in found]


def unzipped(path):
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


class TestTsv:
    def test_known_answer(self, tmp_path):
        path = write(tmp_path / "a.tsv", "left\tright\nA cat.\tA dog.\nRain.\tSun.\n")
        assert list(read_tsv(path)) == [
            (2, {"left": "A cat.", "right": "A dog."}),
            (3, {"left": "Rain.", "right": "Sun."}),
        ]

    def test_columns_for_a_file_without_a_header(self, tmp_path):
        path = write(tmp_path / "a.tsv", "A cat.\tA dog.\tsource\nRain.\tSun.\n")
        assert list(read_tsv(path, columns=["left", "right"])) == [
            (1, {"left": "A cat.", "right": "A dog."}),  # the third cell has no name and is left out
            (2, {"left": "Rain.", "right": "Sun."}),
        ]

    def test_a_stray_quote_is_text(self, tmp_path):
        rows = rows_of(read_tsv(write(tmp_path / "a.tsv", STRAY_QUOTES)))
        assert len(rows) == 8
        assert rows[1] == {"sentence1": '"Well, he left.', "sentence2": "He left.", "score": "4.0"}
        assert rows[5]["sentence1"] == 'A 5" disk.'

    def test_against_the_csv_module_without_quoting(self, tmp_path):
        path = write(tmp_path / "a.tsv", STRAY_QUOTES)
        with open(path, encoding="utf-8", newline="") as file:
            kept = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        assert rows_of(read_tsv(path)) == kept

    def test_texts_that_look_missing(self, tmp_path):
        path = write(tmp_path / "b.tsv", "left\tright\nNA\tnull\nnan\tNone\n")
        assert rows_of(read_tsv(path)) == [{"left": "NA", "right": "null"}, {"left": "nan", "right": "None"}]

    def test_byte_order_mark(self, tmp_path):
        path = write(tmp_path / "a.tsv", b"\xef\xbb\xbfleft\tright\na\tb\n")
        assert rows_of(read_tsv(path)) == [{"left": "a", "right": "b"}]
        with open(path, encoding="utf-8") as file:
            assert next(csv.reader(file, delimiter="\t")) == ["\ufeffleft", "right"]

    def test_crlf_and_no_newline_at_the_end(self, tmp_path):
        path = write(tmp_path / "a.tsv", "left\tright\r\na\tb\r\nc\td")
        assert rows_of(read_tsv(path)) == [{"left": "a", "right": "b"}, {"left": "c", "right": "d"}]

    @pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
    def test_only_a_newline_ends_a_line(self, tmp_path, odd):
        text = f"one{odd}two"
        path = write(tmp_path / "a.tsv", f"left\tright\n{text}\tb\n")
        assert len(path.read_bytes().decode("utf-8").splitlines()) == 3
        assert rows_of(read_tsv(path)) == [{"left": text, "right": "b"}]

    def test_latin_1(self, tmp_path):
        path = write(tmp_path / "a.tsv", "left\tright\na\tb\ncaf\u00e9\tbar\n".encode("latin-1"))
        with pytest.raises(DataError, match=r'a\.tsv, line 3: 0xe9 \(byte 4\) is not utf-8.*encoding="latin-1"'):
            list(read_tsv(path))
        assert rows_of(read_tsv(path, encoding="latin-1"))[1]["left"] == "caf\u00e9"

    def test_one_nul_byte_is_a_character(self, tmp_path):
        path = write(tmp_path / "a.tsv", "left\tright\na text\x00\tb\n")
        assert rows_of(read_tsv(path)) == [{"left": "a text\x00", "right": "b"}]

    @pytest.mark.parametrize(
        ("line", "message"),
        [("c", r"1 columns, expected 2 \(left, right\)"), ("c\td\te", "3 columns, expected 2; is there a separator")],
    )
    def test_a_wrong_number_of_columns(self, tmp_path, line, message):
        path = write(tmp_path / "a.tsv", f"left\tright\na\tb\n{line}\n")
        with pytest.raises(DataError, match=rf"a\.tsv, line 3: {message}"):
            list(read_tsv(path))

    def test_empty_cells_at_the_end_of_a_row_are_no_columns(self, tmp_path):
        assert rows_of(read_tsv(write(tmp_path / "a.tsv", "left\tright\na\tb\t\t\n"))) == [{"left": "a", "right": "b"}]

    def test_empty_lines_are_passed_over(self, tmp_path):
        path = write(tmp_path / "a.tsv", "\nleft\tright\na\tb\n\nc\td\n\n\n")
        assert list(read_tsv(path)) == [(3, {"left": "a", "right": "b"}), (5, {"left": "c", "right": "d"})]

    def test_a_column_twice(self, tmp_path):
        with pytest.raises(DataError, match=r"line 1: the column 'text' is there twice"):
            list(read_tsv(write(tmp_path / "a.tsv", "text\ttext\na\tb\n")))

    def test_it_is_a_stream(self, tmp_path):
        path = write(tmp_path / "a.tsv", b"left\tright\na\tb\n\xff\tbroken\n")
        assert next(iter(read_tsv(path))) == (2, {"left": "a", "right": "b"})


class TestJsonl:
    def test_known_answer(self, tmp_path):
        path = write(tmp_path / "a.jsonl", '{"a": "x", "n": 1}\n\n{"a": "y"}\n\n')
        assert list(read_jsonl(path)) == [(1, {"a": "x", "n": 1}), (3, {"a": "y"})]

    @pytest.mark.parametrize("odd", ["\u2028", "\x85"])
    def test_only_a_newline_ends_a_line(self, tmp_path, odd):
        path = write(tmp_path / "a.jsonl", f'{{"a": "one{odd}two"}}\n')
        assert rows_of(read_jsonl(path)) == [{"a": f"one{odd}two"}]

    def test_gzip_is_seen_by_content_not_by_name(self, tmp_path):
        line = b'{"a": "x"}\n'
        assert rows_of(read_jsonl(write(tmp_path / "zipped.jsonl", gzip.compress(line)))) == [{"a": "x"}]
        assert rows_of(read_jsonl(write(tmp_path / "plain.jsonl.gz", line))) == [{"a": "x"}]

    def test_a_gzip_file_cut_short(self, tmp_path):
        whole = gzip.compress("".join(json.dumps({"n": n}) + "\n" for n in range(5000)).encode())
        path = write(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2])
        with pytest.raises(DataError, match=r"a\.jsonl\.gz, after line \d+: the gzip file is damaged or cut short"):
            list(read_jsonl(path))

    def test_a_gzip_file_with_a_flipped_byte(self, tmp_path):
        whole = bytearray(gzip.compress(b'{"a": "x"}\n' * 10))
        whole[-6] ^= 0xFF  # in the checksum
        with pytest.raises(DataError, match="damaged or cut short"):
            list(read_jsonl(write(tmp_path / "a.jsonl.gz", bytes(whole))))

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{'a': 1}", "line 2: not JSON"),
            ('{"a": 1', "line 2: not JSON"),
            ("[1, 2]", "line 2: expected a JSON object"),
        ],
    )
    def test_a_broken_line(self, tmp_path, line, message):
        with pytest.raises(DataError, match=rf"a\.jsonl, {message}"):
            list(read_jsonl(write(tmp_path / "a.jsonl", f'{{"a": 1}}\n{line}\n')))

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nothing"):
            list(read_jsonl(tmp_path / "nothing.jsonl"))


class TestWriting:
    def test_known_answer(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", [{"text": "caf\u00e9", "n": 1}, {"text": 'a "b"\n'}])
        assert path.read_bytes().decode() == '{"text": "caf\u00e9", "n": 1}\n{"text": "a \\"b\\"\\n"}\n'

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        texts=st.lists(st.dictionaries(st.text(), st.text(), max_size=3), max_size=5),
        suffix=st.sampled_from([".jsonl", ".jsonl.gz"]),
    )
    def test_round_trip(self, tmp_path, texts, suffix):
        path = write_jsonl(tmp_path / f"a{suffix}", texts)
        assert rows_of(read_jsonl(path)) == texts
        lines = unzipped(path).decode().split("\n")  # another reader: json on lines cut at "\n"
        assert [json.loads(line) for line in lines[:-1]] == texts
        assert lines[-1] == ""

    def test_half_a_surrogate_pair(self, tmp_path):
        rows = [{"a": "x\ud800y", "b": "\\\udfff"}]
        assert rows_of(read_jsonl(write_jsonl(tmp_path / "a.jsonl", rows))) == rows

    def test_gzipped_by_name_and_the_same_bytes_each_time(self, tmp_path):
        first = write_jsonl(tmp_path / "a.jsonl.gz", [{"a": 1}]).read_bytes()
        assert first == write_jsonl(tmp_path / "b.jsonl.gz", [{"a": 1}]).read_bytes()
        assert gzip.decompress(first) == b'{"a": 1}\n'
        assert first[4:8] == bytes(4)  # the header's time

    def test_a_failure_leaves_the_old_file(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", [{"a": "old"}])
        with pytest.raises(TypeError):
            write_jsonl(path, [{"a": "new"}, {"a": object()}])
        assert rows_of(read_jsonl(path)) == [{"a": "old"}]


class TestCsvAndForms:
    def test_csv_has_quoting(self, tmp_path):
        path = write(tmp_path / "a.csv", 'left,right\r\n"a, ""b""","two\nlines"\r\nc,d\r\n')
        assert list(read_csv(path)) == [
            (3, {"left": 'a, "b"', "right": "two\nlines"}),
            (4, {"left": "c", "right": "d"}),
        ]

    @pytest.mark.parametrize("line", ['"open,d', '"a" b,d'])
    def test_broken_quoting(self, tmp_path, line):
        with pytest.raises(DataError, match=r"a\.csv, line 2: broken quoting"):
            list(read_csv(write(tmp_path / "a.csv", f"left,right\n{line}")))

    def test_csv_with_a_wrong_number_of_columns(self, tmp_path):
        with pytest.raises(DataError, match=r"a\.csv, line 2: 3 columns, expected 2; is there a separator inside"):
            list(read_csv(write(tmp_path / "a.csv", "left,right\na,b, and c\n")))

    @pytest.mark.parametrize("content", ['{"l": "a", "r": "b"}', "l\tr\na\tb\n", "l,r\na,b\n", "\ufeffl,r\na,b\n"])
    def test_the_first_line_tells_the_form_not_the_name(self, tmp_path, content):
        assert rows_of(read_table(write(tmp_path / "a.data", content))) == [{"l": "a", "r": "b"}]

    def test_a_json_array(self, tmp_path):
        with pytest.raises(DataError, match="JSON array; write one JSON object per line"):
            read_table(write(tmp_path / "a.json", '[{"a": 1}]'))

    def test_first_line(self, tmp_path):
        assert first_line(write(tmp_path / "a", "\n\nx\ny")) == "x"
        assert first_line(write(tmp_path / "b", "")) == ""


class TestMalformedLines:
    """A reader that is given what counts them reports each line that cannot be used, and goes on."""

    def read(self, path, reader=read_table):
        bad = MalformedLines(path, "count")
        rows = list(reader(path, bad=bad))
        return rows, [wrong.partition(";")[0][:35] for wrong in bad.first]

    def test_jsonl(self, tmp_path):
        path = write(tmp_path / "a", b'{"a": "\xe9"}\n{"a": 1}\n\n{"a"\n[2]\n{"a": 2}\n')
        rows, wrong = self.read(path)
        assert rows == [(2, {"a": 1}), (6, {"a": 2})]
        assert wrong == [
            "line 1: 0xe9 (byte 8) is not utf-8",
            "line 4: not JSON (Expecting ':' del",
            "line 5: expected a JSON object, got",
        ]

    def test_tsv(self, tmp_path):
        path = write(tmp_path / "a", b"l\tr\na\tb\n\xe9\tc\n\nd\ne\tf\tg\nh\ti\n\n")
        rows, wrong = self.read(path)
        assert rows == [(2, {"l": "a", "r": "b"}), (7, {"l": "h", "r": "i"})]
        assert wrong == [
            "line 3: 0xe9 (byte 1) is not utf-8",
            "line 5: 1 columns, expected 2 (l, r",
            "line 6: 3 columns, expected 2",
        ]

    def test_csv(self, tmp_path):
        path = write(tmp_path / "a", b'l,r\na,b\n"c\nd",d\ne\nf,g\n')
        rows, wrong = self.read(path)
        assert [number for number, _ in rows] == [2, 4, 6]
        assert wrong == ["line 5: 1 columns, expected 2 (l, r"]

    @pytest.mark.parametrize("content", [b"l\xe9\tr\na\tb\n", b"l\xe9,r\na,b\n"])
    def test_a_line_of_names_is_needed(self, tmp_path, content):
        with pytest.raises(DataError, match=r"a, line 1: 0xe9 \(byte 2\) is not utf-8"):
            self.read(write(tmp_path / "a", content), read_tsv if b"\t" in content else read_csv)

    def test_a_csv_file_in_another_encoding(self, tmp_path):
        """Without the line the quotes would not match."""
        with pytest.raises(DataError, match=r"line 3: 0xe9 \(byte 1\) is not utf-8"):
            self.read(write(tmp_path / "a", b'l,r\n"c\n\xe9",d\nf,g\n'), read_csv)
