"""Changes of a YAML file: each says what it did, and whether the file means the same after it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import yaml

from fuzz.judge import Expected

Mutation = Callable[[str, random.Random], tuple[str, Expected, bytes]]

MUTATIONS: dict[str, Mutation] = {}
_CODE = (
    '!!python/object/apply:os.system ["touch ran"]',
    "!!python/object/apply:eval [\"__import__('os').system('touch ran')\"]",
    '!!python/object/apply:eval ["[x for x in (1).__class__.__base__.__subclasses__()]"]',
    '!!python/object/apply:subprocess.check_output [["touch", "ran"]]',
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object/new:os.system [touch ran]",
    "!!python/object/apply:eval [\"open('ran', 'w')\"]",
    '!!python/object/apply:eval ["9**9**9"]',
    '!!python/object/apply:eval ["[0] * 10**12"]',
)


def mutation(change: Mutation) -> Mutation:
    """Decorates a change."""
    MUTATIONS[change.__name__] = change
    return change


@mutation
def other_writing(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    content = yaml.safe_load(text)
    shuffled = {key: content[key] for key in rng.sample(sorted(content), len(content))}
    ways: list[tuple[str, str]] = [
        ("with CRLF", text.replace("\n", "\r\n")),
        ("dumped in block style", yaml.safe_dump(shuffled)),
        ("dumped in flow style", yaml.safe_dump(shuffled, default_flow_style=True)),
        ("as JSON", json.dumps(shuffled, indent=1)),
        ("with comments", "# one\n" + text.replace("\n", "  # two\n", 1) + "# three"),
        ("with document marks", f"---\n{text}...\n"),
        ("with blank lines", text.replace("\n", "\n\n")),
        ("with a version", f"%YAML 1.1\n---\n{text}"),
        ("with an alias", _aliased(content)),
        ("with a plain tag", text.replace("VERSION: 2", "VERSION: !!int 2")),
    ]
    what, data = rng.choice(ways)
    return what, "same", data.encode()


def _aliased(content: dict[str, Any]) -> str:
    features = content["MODEL"]["RPN"]["IN_FEATURES"]
    content["MODEL"]["RETINANET"] = {"IN_FEATURES": features}
    content["MODEL"]["RETINANET"] = {}
    content["MODEL"]["ROI_HEADS"]["IOU_THRESHOLDS"] = shared = [0.5]
    content["MODEL"]["ROI_HEADS"]["IOU_THRESHOLDS"] = shared
    return yaml.safe_dump(content).replace("p2\n", "&p p2\n", 1).replace("- p2\n", "- *p\n", 1)


@mutation
def cut(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    length = rng.randrange(1, len(text))
    return f"cut after {length} of {len(text)}", "either", text[:length].encode()


@mutation
def flipped(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    data = bytearray(text.encode())
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    return f"a bit of byte {place} flipped", "either", bytes(data)


@mutation
def no_mapping(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    ways = ("", "\n", "# nothing\n", "- MODEL\n", "text\n", "5\n", "null\n", "[1, 2]\n", "---\n")
    data = rng.choice(ways)
    return f"all of it is {data!r}", "refused", data.encode()


@mutation
def broken(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    lines = text.splitlines()
    place = rng.randrange(1, len(lines))
    ways = {
        "a tab": "\tSEED: 4",
        "an open bracket": "X: [1, 2",
        "an open quote": "SEED: 'three",
        "an alias of nothing": "SEED: *nothing",
        "an unknown tag": "SEED: !ours 3",
        "a wrong indent": "     SEED: 3",
        "a second document": "---\nSEED: 4",
        "a line without a colon": "SEED 4",
        "a byte of nothing": "SEED: \0 4",
        "a bell": "SEED: \a 4",
        "a list in itself": "SEED: &a [*a]",
        "two colons": "SEED: 4: 5",
        "a percent": "%SEED",
        "an at sign": "SEED: @4",
    }
    what = rng.choice(sorted(ways))
    lines.insert(place, ways[what])
    return f"{what} in line {place + 1}", "refused", "\n".join(lines).encode()


@mutation
def bytes_of_nothing(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    ways = (rng.randbytes(300), b"\xff\xfe" + text.encode(), text.encode() + b"# \xe4\n", b"\0" * 9)
    return "bytes that are no text", "refused", rng.choice(ways)


@mutation
def code(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    chosen = rng.choice(_CODE)
    key = rng.choice(("SEED", "OUTPUT_DIR", "VERSION", "VIS_PERIOD"))
    return f"{key}: {chosen}", "refused", f"{text}\n{key}: {chosen}\n".encode()


@mutation
def harmless_code(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    # Detectron2's own base of RetinaNet is written so.
    own = "[[20], [30], [42]]"
    way = rng.choice((f'!!python/object/apply:eval ["{own}"]', "!!python/tuple [[20], [30], [42]]"))
    data = text.replace(f"SIZES: {own}", f"SIZES: {way}")
    assert data != text
    return f"SIZES: {way}", "same", data.encode()


@mutation
def key_twice(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    line = rng.choice(("SEED: 4", "SOLVER: {MAX_ITER: 2}", "MODEL: {MASK_ON: True}"))
    return f"{line}, a second time", "refused", f"{text}\n{line}\n".encode()


@mutation
def other_nodes(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    content = yaml.safe_load(text)
    ways: list[tuple[str, Callable[[], Any]]] = [
        ("MODEL is a number", lambda: content.update(MODEL=5)),
        ("MODEL is a list", lambda: content.update(MODEL=[content["MODEL"]])),
        ("MODEL is nothing", lambda: content.update(MODEL=None)),
        ("MODEL is text", lambda: content.update(MODEL="FPN")),
        ("SEED is a mapping", lambda: content.update(SEED={"A": 1})),
        ("SEED is nothing", lambda: content.update(SEED=None)),
        ("a key that is a number", lambda: content.update({5: 6})),
        ("a key that is nothing", lambda: content.update({None: 6})),
        ("a key that is a list", lambda: content.update({(1, 2): 6})),
        ("a misspelled node", lambda: content.update(MODLE={"MASK_ON": True})),
        ("a misspelled key", lambda: content["SOLVER"].update(MAX_ITERS=3)),
        ("a key of another node", lambda: content["SOLVER"].update(MASK_ON=False)),
        ("a key in lower case", lambda: content.update(seed=3)),
        ("a date", lambda: content.update(SEED=__import__("datetime").date(2020, 1, 2))),
        ("a point in a key", lambda: content.update({"SOLVER.MAX_ITER": 1})),
        ("NaN for a rate", lambda: content["SOLVER"].update(BASE_LR=float("nan"))),
        ("bytes", lambda: content["MODEL"].update(WEIGHTS=b"\x00\x01")),
    ]
    what, change = rng.choice(ways)
    change()
    data = yaml.dump(content)
    return what, "either" if what == "a point in a key" else "refused", data.encode()


@mutation
def bases(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    ways = ("config.yaml", "nothing.yaml", "a_folder", "[]", "5", "''", "~", "{a: b}", "../in")
    ways += ("http://127.0.0.1:9/x.yaml", "config.py", '["config.yaml"]', "~nobody/x.yaml")
    base = rng.choice(ways)
    expected: Expected = "either" if base in ("''", "~", "[]") else "refused"
    return f"_BASE_: {base}", expected, f"{text}\n_BASE_: {base}\n".encode()


@mutation
def deep(text: str, rng: random.Random) -> tuple[str, Expected, bytes]:
    ways = {
        "a list in 3000 lists": f"SEED: {'[' * 3000}{']' * 3000}\n",
        "a mapping in 3000 mappings": f"SEED: {'{a: ' * 3000}1{'}' * 3000}\n",
        "laughs": _laughs(),
        "a long number": f"SEED: {'9' * 5000}\n",
    }
    what = rng.choice(sorted(ways))
    return what, "refused", f"{text}\n{ways[what]}".encode()


def _laughs() -> str:
    lines = ["L0: &l0 [x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 12):
        lines.append(f"L{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]")
    return "\n".join(lines)
