"""Pictures of graphs: nothing overlaps, labels fit, lines end at boxes, chains that repeat are folded."""

import builtins
import itertools
import os
import random
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gradtape.errors import ArgumentError
from gradtape.explain import picture as pictures
from gradtape.explain.folding import folded
from gradtape.explain.layout import layout
from gradtape.explain.picture import Link, Node, Picture


def op(key, name="sin", detail="float32 (3, 4)"):
    return Node(key, "op", (name, detail))


def source(key, detail="float32 (3, 4)"):
    return Node(key, "source", (str(key), detail))


def chain(rounds, names=("sin", "multiply", "add"), start="x"):
    """A source, a constant for each round, `names` over and over, and a target."""
    nodes, links, before = [source(start)], [], start
    for i in range(rounds):
        keys = [(i, j) for j in range(len(names))]
        nodes += [Node(f"c{i}", "constant", ("0.9",)), *map(op, keys, names)]
        links += [Link(*pair) for pair in itertools.pairwise([before, *keys])]
        links.append(Link(f"c{i}", (i, 1 % len(names))))
        before = keys[-1]
    return Picture([*nodes, Node("y", "target", ("y", "float32 ()"))], [*links, Link(before, "y")])


def net():
    nodes, links, before = [Node("x", "constant", ("float32 (128, 784)",))], [], "x"
    for i in range(3):
        for name, reads in (("matmul", f"kernel_{i}"), ("add", f"bias_{i}"), ("relu", None)):
            key = f"{name}_{i}"
            nodes.append(op(key, name, f"float32 (128, {2**i})"))
            links.append(Link(before, key))
            before = key
            if reads:
                nodes.append(source(reads))
                links.append(Link(reads, key))
    nodes.append(Node("loss", "target", ("loss", "float32 ()")))
    path = ("kernel_0", "matmul_0", "add_0", "relu_0", "matmul_1")
    return Picture(nodes, [*links, Link(before, "loss")], path)


def scattered(seed, count=50):
    """A random graph, with skips, notes, broken links, parallel links and parts that do not meet."""
    r = random.Random(seed)
    nodes, links = [source("a"), source("b")], [Link("a", "b", note="b was a")] if seed % 2 else []
    for i in range(count):
        read = r.sample([node.key for node in nodes][-9:], r.choice([1, 1, 2]))
        links += [Link(x, i, r.random() < 0.1, r.choice(["", "", "", "argmax has none"])) for x in read]
        nodes.append(
            op(i, r.choice(["sin", "add", "reduce_logsumexp"]), f"float32 {r.choice([(), (3, 4, 5)])}")
        )
    links += r.sample(links, 3)
    nodes += [source("unused"), Node("y", "target", ("y",))]
    return Picture(nodes, [*links, Link(count - 1, "y")])


BROKEN = Picture(
    [
        source("w"),
        source("v"),
        op(1, "multiply"),
        op(2, "argmax", "int64 ()"),
        op(3, "gather"),
        Node("t", "target", ("t",)),
    ],
    [
        Link("w", 1),
        Link("v", 1, broken=True),
        Link(1, 2, broken=True, note="argmax has no derivative"),
        Link(1, 3),
        Link(2, 3),
        Link(3, "t"),
    ],
    path=("w", 1, 3, "t"),
)
LONG = Picture(
    [source("a_name_that_goes_on_and_on_" * 3, "float32 " + str(tuple(range(40)))), op(1, "重み行列" * 20)],
    [Link("a_name_that_goes_on_and_on_" * 3, 1)],
)
GRAPHS = {
    "net": net(),
    "chain": chain(20),
    "folded": folded(chain(100)),
    "broken": BROKEN,
    "long": LONG,
    "lone": Picture([source("x")], []),
    "parts": Picture([source("x"), op(1), source("y"), op(2), source("z")], [Link("x", 1), Link("y", 2)]),
    **{f"scattered {seed}": scattered(seed) for seed in range(12)},
}


# -- what stands where ---------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def drawn(picture):
    """The boxes (left, upper, right, lower), their elements, and the lines from end to end, from the SVG."""
    root = ET.fromstring(picture.svg())
    groups = root.findall(f"{SVG}g")
    boxes = []
    for group in groups:
        corners = []
        for shape in group:
            x, y = (float(shape.get(name, 0)) for name in ("x", "y"))
            if shape.tag == f"{SVG}rect":
                corners += [(x, y), (x + float(shape.get("width")), y + float(shape.get("height")))]
            elif shape.tag == f"{SVG}path":
                corners += points(shape.get("d"))
            elif shape.tag == f"{SVG}text" and group.get("class") in ("note", "break"):
                half = len(shape.text) * 7.83 / 2
                corners += [(x - half, y - 13.5), (x + half, y + 4.5)]
        xs, ys = zip(*corners, strict=True)
        boxes.append((min(xs), min(ys), max(xs), max(ys)))
    lines = []
    for shape in root:
        if shape.tag == f"{SVG}path":
            ends = points(shape.get("d"))
            lines.append([ends[0], ends[-1]])
        elif shape.tag == f"{SVG}polygon":  # the arrowhead of the line before it
            lines[-1][1] = points(shape.get("points"))[0]
    return boxes, groups, lines


def points(text):
    numbers = [float(x) for x in re.findall(r"-?[\d.]+", text)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@pytest.fixture(params=["library", "program"])
def either_way(request, monkeypatch, tmp_path):
    """With a PATH that has no Graphviz, and with one that has: a program that asks the library."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if request.param == "program":
        if os.name == "nt":
            pytest.skip("the program is a script that starts by #!")
        program = tmp_path / "dot"
        lines = [
            f"#!{sys.executable}",
            "import sys, pygraphviz",
            'assert "-Tplain" in sys.argv',
            "graph = pygraphviz.AGraph(sys.stdin.read())",
            'sys.stdout.buffer.write(graph.draw(format="plain", prog="dot"))',
        ]
        program.write_text("\n".join(lines))
        program.chmod(0o755)
        monkeypatch.setattr("pygraphviz.AGraph", None)


@pytest.mark.parametrize("name", GRAPHS)
def test_no_two_boxes_overlap_and_all_are_in_the_picture(name, either_way):
    boxes, _, _ = drawn(GRAPHS[name])
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], (a, b)
    left, upper, width, height = map(float, ET.fromstring(GRAPHS[name].svg()).get("viewBox").split())
    for box in boxes:
        assert left < box[0]
        assert upper < box[1]
        assert box[2] < left + width
        assert box[3] < upper + height


@pytest.mark.parametrize("name", GRAPHS)
def test_every_label_fits_its_box(name):
    image_font = pytest.importorskip("PIL.ImageFont")
    matplotlib = pytest.importorskip("matplotlib")
    size = float(ET.fromstring(GRAPHS[name].svg()).get("font-size"))
    assert size >= 12
    font = image_font.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSansMono-Bold.ttf"), size)
    boxes, groups, _ = drawn(GRAPHS[name])
    for (left, upper, right, lower), group in zip(boxes, groups, strict=True):
        texts = group.findall(f"{SVG}text")
        assert all(float(b.get("y")) - float(a.get("y")) >= size for a, b in itertools.pairwise(texts))
        for text in texts:
            x, y = float(text.get("x")), float(text.get("y"))
            half = font.getlength(re.sub("[^ -~]", "mm", text.text)) / 2  # it has no letters of Asia
            assert left - 0.1 <= x - half
            assert x + half <= right + 0.1
            assert upper - 0.1 <= y - 0.75 * size
            assert y < lower


@pytest.mark.parametrize("name", GRAPHS)
def test_every_line_starts_and_ends_at_its_boxes(name, either_way):
    graph = GRAPHS[name]
    boxes, _, lines = drawn(graph)
    found = {(touched(start, boxes), touched(end, boxes)) for start, end in lines}
    nodes = {node.key: i for i, node in enumerate(graph.nodes)}
    breaks = range(len(nodes), len(boxes))
    through = {(a, d) for a, b in found for c, d in found if b == c and b in breaks}
    plain = {(a, b) for a, b in found if a not in breaks and b not in breaks}
    assert plain | through == {(nodes[link.start], nodes[link.end]) for link in graph.links}
    assert not plain & through


def touched(point, boxes):
    """The box that has this point on its edge, within the two pixels that Graphviz rounds to."""
    x, y = point
    (box,) = [
        i
        for i, (left, upper, right, lower) in enumerate(boxes)
        if left - 2 <= x <= right + 2
        and upper - 2 <= y <= lower + 2
        and min(abs(x - left), abs(x - right), abs(y - upper), abs(y - lower)) <= 2
    ]
    return box


# -- the layout ----------------------------------------------------------------------------------------------


def boxes_and_links(seed):
    r = random.Random(seed)
    sizes = [(r.uniform(20, 200), r.uniform(20, 90)) for _ in range(40)]
    links = {(r.randrange(max(0, i - 12), i), i) for i in range(2, 40) for _ in range(r.choice([1, 1, 2]))}
    return sizes, sorted(links)


def bezier(line, steps=20):
    """Points of the curves of a line."""
    for i in range(0, len(line) - 1, 3):
        for t in (j / steps for j in range(steps + 1)):
            weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            yield tuple(sum(w * p[k] for w, p in zip(weights, line[i : i + 4], strict=True)) for k in (0, 1))


@pytest.mark.parametrize("seed", range(10))
def test_lines_lead_downwards_and_pass_no_box(seed):
    sizes, links = boxes_and_links(seed)
    places = layout(sizes, links, [0, 1, 5], [30, 39])
    for (start, end), line in zip(links, places.lines, strict=True):
        assert places.centres[start][1] + sizes[start][1] / 2 < places.centres[end][1] - sizes[end][1] / 2
        for i, (x, y) in ((start, line[0]), (end, line[-1])):
            assert abs(x - places.centres[i][0]) <= sizes[i][0] / 2 + 1
            assert abs(y - places.centres[i][1]) <= sizes[i][1] / 2 + 1
        for i, ((x, y), (width, height)) in enumerate(zip(places.centres, sizes, strict=True)):
            if i not in (start, end):
                assert not any(
                    abs(px - x) < width / 2 and abs(py - y) < height / 2 for px, py in bezier(line)
                )


@pytest.mark.parametrize("seed", range(10))
def test_sources_come_first_and_targets_last(seed):
    sizes, links = boxes_and_links(seed)
    starts, ends = {a for a, _ in links}, {b for _, b in links}
    top, bottom = [i for i in range(40) if i not in ends], [i for i in range(2, 40) if i not in starts]
    centres = layout(sizes, links, range(40), bottom).centres
    assert all(centres[i][1] == min(y for _, y in centres) for i in top)
    assert all(centres[i][1] == max(y for _, y in centres) for i in bottom)


def test_a_constant_stands_near_what_reads_it():
    links = [*itertools.pairwise(range(10)), (10, 9)]
    centres = layout([(50, 20)] * 11, links, [0], [9]).centres
    assert centres[10][1] == centres[8][1]
    assert {x for x, _ in centres[:9]} == {centres[0][0]}


def test_the_same_graph_is_laid_out_the_same():
    assert layout(*boxes_and_links(3), [0], []) == layout(*boxes_and_links(3), [0], [])


def test_no_boxes_need_no_place():
    assert layout([], [], [], []) == (0, 0, [], [])


def test_positions_are_pixels_from_the_upper_left_corner(either_way):
    places = layout([(72, 36), (144, 36)], [(0, 1)], [0], [1])
    assert places.width == 144
    assert places.height > 72
    assert places.centres == [(72, 18), (72, places.height - 18)]
    assert places.lines[0][0] == pytest.approx((72, 36), abs=1)
    assert places.lines[0][-1] == pytest.approx((72, places.height - 36), abs=1)


def without(monkeypatch, module):
    """As if the module were not installed."""
    real = builtins.__import__

    def imported(name, *args, **kwargs):
        if name.partition(".")[0] == module:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", imported)


def test_without_a_library_for_it_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    without(monkeypatch, "pygraphviz")
    with pytest.raises(ImportError, match="drawing needs Graphviz: pip install pygraphviz"):
        net().svg()


# -- looks ---------------------------------------------------------------------------------------------------


def test_long_text_is_cut_and_whole_in_the_tooltip():
    group = drawn(LONG)[1][0]
    name, detail = (text.text for text in group.findall(f"{SVG}text"))
    assert name == LONG.nodes[0].lines[0][:41] + "…"
    assert len(detail) == 42
    assert group.findtext(f"{SVG}title") == "\n".join(LONG.nodes[0].lines)


def test_names_that_are_no_xml_are_drawn():
    graph = Picture([Node("x", "source", ('<a & "b">\x00\ud800',))], [])
    assert drawn(graph)[1][0].findtext(f"{SVG}text") == '<a & "b">\ufffd\ufffd'


def looks(graph):
    """(colour, thickness, dashes) of each line."""
    root = ET.fromstring(graph.svg())
    return [
        (shape.get("stroke"), float(shape.get("stroke-width")), shape.get("stroke-dasharray"))
        for shape in root.findall(f"{SVG}path")
    ]


def test_broken_links_and_the_chosen_path_differ_in_more_than_colour():
    found = looks(BROKEN)
    assert len(found) == 8  # two of the six links are broken into two
    assert {dashes for colour, _, dashes in found if colour == "#d55e00"} == {"6 4"}
    assert {dashes for colour, _, dashes in found if colour != "#d55e00"} == {None}
    assert [colour for colour, thickness, _ in found if thickness > 3] == ["#0072b2"] * 3
    crosses = [group for group in drawn(BROKEN)[1] if group.get("class") == "break"]
    assert [[text.text for text in cross.findall(f"{SVG}text")] for cross in crosses] == [
        [],
        ["argmax has no derivative"],
    ]


def test_links_between_the_same_boxes_are_one_line_and_broken_only_if_all_are():
    two = Picture([source("x"), op(1)], [Link("x", 1, broken=True), Link("x", 1)])
    assert len(looks(two)) == 1
    assert looks(two._replace(links=[Link("x", 1, broken=True)] * 2)) == looks(
        two._replace(links=[Link("x", 1, broken=True)])
    )


def test_repr_counts_the_ops_that_folds_stand_for():
    assert repr(chain(100)) == repr(folded(chain(100))) == "<picture of 300 ops; .save('tape.svg')>"
    assert repr(Picture([op(1)], [])) == "<picture of 1 op; .save('tape.svg')>"


# -- files ---------------------------------------------------------------------------------------------------


def test_svg_files_are_what_notebooks_show(tmp_path):
    net().save(tmp_path / "tape.svg")
    assert (tmp_path / "tape.svg").read_text(encoding="utf-8") == net()._repr_svg_() == net().svg()


def letters(tmp_path):
    """How much of a picture's PNG is black, which only letters are."""
    image = pytest.importorskip("PIL.Image")
    net().save(str(tmp_path / "tape.png"))
    with image.open(tmp_path / "tape.png") as png:
        return png.size, sum(png.convert("L").histogram()[:30])


def test_png_files_have_the_picture_at_twice_its_size(tmp_path):
    pytest.importorskip("resvg_py")
    root = ET.fromstring(net().svg())
    size, black = letters(tmp_path)
    assert size == (2 * int(root.get("width")), 2 * int(root.get("height")))
    assert black > 1000


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine without fonts of its own."""
    resvg = pytest.importorskip("resvg_py")
    real = resvg.svg_to_bytes
    monkeypatch.setattr(resvg, "svg_to_bytes", lambda **kwargs: real(**kwargs, skip_system_fonts=True))


def test_matplotlibs_font_is_used_where_there_is_no_other(no_fonts, tmp_path):
    pytest.importorskip("matplotlib")
    assert letters(tmp_path)[1] > 1000


def test_without_a_font_a_png_is_refused(no_fonts, monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "_fonts", list)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        net().save(tmp_path / "tape.png")
    assert not list(tmp_path.iterdir())


def test_without_the_library_for_png_the_error_says_what_to_install(monkeypatch, tmp_path):
    without(monkeypatch, "resvg_py")
    with pytest.raises(ImportError, match=r"writing \.png needs resvg-py: pip install resvg-py"):
        net().save(tmp_path / "tape.png")


@pytest.mark.parametrize("name", ["tape", "tape.jpg"])
def test_other_kinds_of_files_are_refused(name, tmp_path):
    with pytest.raises(ArgumentError, match=r"neither \.svg nor \.png"):
        net().save(tmp_path / name)


# -- folding -------------------------------------------------------------------------------------------------


def texts(graph):
    return [(node.kind, node.lines, node.ops) for node in graph.nodes]


def ends(graph):
    name = {node.key: node.lines[0] for node in graph.nodes}
    return {(name[link.start], name[link.end]) for link in graph.links}


def test_a_chain_is_folded_and_its_constants_with_it():
    graph = folded(chain(100))
    assert texts(graph) == [
        ("source", ("x", "float32 (3, 4)"), 1),
        ("constant", ("0.9", "× 100"), 1),
        ("fold", ("× 100", "sin", "multiply", "add", "float32 (3, 4)"), 300),
        ("target", ("y", "float32 ()"), 1),
    ]
    assert ends(graph) == {("x", "× 100"), ("0.9", "× 100"), ("× 100", "y")}


@pytest.mark.parametrize("period", range(1, 13))
def test_rounds_of_any_length_are_found(period):
    names = [f"op{i}" for i in range(period)]
    (fold,) = [node for node in folded(chain(7, names)).nodes if node.kind == "fold"]
    assert fold.ops == 7 * period
    assert fold.lines[0] == ("op0 × 7" if period == 1 else "× 7")


def test_two_rounds_are_not_folded():
    assert folded(chain(2)) == Picture(*map(tuple, chain(2)))


def test_the_shortest_round_is_taken():
    graph = folded(chain(12, ("sin",)))
    assert [node.lines[0] for node in graph.nodes if node.kind == "fold"] == ["sin × 12"]


def test_a_round_of_a_loop_may_branch_and_read_what_is_outside():
    """h = tanh(h @ U + x @ W), and each h is read by the loss."""
    nodes, links, h = [source("W"), source("U"), source("h")], [], "h"
    for t in range(10):
        nodes += [
            source(f"x{t}"),
            op(("a", t), "matmul"),
            op(("b", t), "matmul"),
            op(("c", t), "add"),
            op(t, "tanh"),
        ]
        links += [Link(f"x{t}", ("a", t)), Link("W", ("a", t)), Link(h, ("b", t)), Link("U", ("b", t))]
        links += [Link(("a", t), ("c", t)), Link(("b", t), ("c", t)), Link(("c", t), t), Link(t, "loss")]
        h = t
    graph = folded(Picture([*nodes, op("loss", "add_n")], links))
    assert [node.lines for node in graph.nodes if node.kind == "fold"] == [
        ("× 10", "matmul", "matmul", "add", "tanh", "float32 (3, 4)")
    ]
    fold = "× 10"
    assert ends(graph) == {(x, fold) for x in ("W", "U", "h", "x0 … x9")} | {(fold, "add_n")}


def test_ops_that_are_not_linked_in_a_row_are_no_chain():
    graph = Picture([source("x"), *map(op, range(10))], [Link("x", i) for i in range(10)])
    assert folded(graph).nodes == tuple(graph.nodes)


def test_a_round_that_reads_more_than_the_one_before_ends_the_fold():
    graph = Picture([*map(op, range(5))], [*(Link(i, i + 1) for i in range(4)), Link(1, 3)])
    assert [node.lines[0] for node in folded(graph).nodes] == ["sin × 3", "sin", "sin"]


def test_sources_that_only_look_alike_are_kept_apart():
    """Read at different places of a round, or by all rounds."""
    graph = chain(9, ("sin", "add"))
    extra = [source(name) for name in "abcd"]
    links = [*(Link("a", (i, 0)) for i in range(9)), Link("b", (0, 0)), Link("c", (1, 1)), Link("d", (2, 1))]
    small = folded(Picture([*extra, *graph.nodes], [*links, *graph.links]))
    assert [node.lines[0] for node in small.nodes if node.kind == "source"] == ["a", "b", "c", "d", "x"]


def test_other_shapes_are_other_ops():
    nodes = [op(i, "sin", f"float32 ({i},)") for i in range(10)]
    graph = Picture(nodes, [Link(i, i + 1) for i in range(9)])
    assert folded(graph).nodes == tuple(nodes)


def test_a_broken_link_and_its_ends_are_left():
    graph = Picture([op(i) for i in range(20)], [Link(i, i + 1, broken=i == 9) for i in range(19)])
    assert [node.lines[0] for node in folded(graph).nodes] == ["sin × 9", "sin", "sin", "sin × 9"]
    assert [link.broken for link in folded(graph).links] == [False, True, False]


def test_the_path_goes_through_a_fold_but_its_ends_are_left():
    graph = Picture([op(i) for i in range(20)], [Link(i, i + 1) for i in range(19)], path=range(4, 18))
    small = folded(graph)
    assert [node.lines[0] for node in small.nodes] == ["sin × 4", "sin", "sin × 12", "sin", "sin", "sin"]
    assert small.path == (4, 5, 17)
    assert {(link.start, link.end) for link in small.links} >= {(4, 5), (5, 17)}


def test_a_source_in_the_middle_of_a_chain_is_left():
    nodes = [source(i) if i == 10 else op(i) for i in range(20)]
    graph = folded(Picture(nodes, [Link(i, i + 1) for i in range(19)]))
    assert [node.lines[0] for node in graph.nodes] == ["sin × 10", "10", "sin × 9"]


@pytest.mark.parametrize("seed", range(30))
def test_folding_leaves_no_way_back(seed):
    r = random.Random(seed)
    nodes = [Node(i, r.choice(["op"] * 8 + ["source"]), (r.choice("ab"),)) for i in range(200)]
    links = [Link(i, i + 1) for i in range(199)] + [Link(i, i + 2) for i in range(198) if r.random() < 0.05]
    graph = folded(Picture(nodes, links))
    assert any(node.kind == "fold" for node in graph.nodes)
    place = {node.key: i for i, node in enumerate(graph.nodes)}
    assert all(place[link.start] < place[link.end] for link in graph.links)
