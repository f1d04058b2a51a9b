"""Learned filters beside hand-made ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.config import compose, validate
from cnnforge.course.computing import built
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import Array, Exercise, Grid, Heading, Items, Part, Pictures, Strip, Table, Text
from cnnforge.data import load
from cnnforge.init import FILTERS
from cnnforge.model import Model
from cnnforge.spec import EdgesData, RunSpec

#: Epochs after which the filter is looked at, beside the last.
LOOKS = (1, 2, 5, 10, 20)
#: Distances below are rounding.
TINY = 1e-10
#: Epochs of the small digits network.
EPOCHS = 15


def parts(lesson: Lesson) -> Iterator[Part]:
    run = lesson.run
    wanted = _wanted(lesson)
    data = load(run.data, run.model.input, run.seed)
    x, y = data.preprocessing.normalize(data.train.x), data.train.y
    looks = [*(n for n in LOOKS if n < run.trainer.epochs), run.trainer.epochs]
    yield Text(
        "Sobel thought about his nine numbers. Could they be *found*, from pictures and their edges alone? Take "
        f"{len(x):,} handwritten digits and what the filter `{_name(run)}` makes of them. Take a network that is one "
        "convolution with nine random numbers. Show it the digits, tell it by how much its answers are wrong, and let "
        "gradient descent change the numbers a little. Again and again."
    )
    nets = {0: built(run.model, run.seed)} | {n: trained(run, x, y, n) for n in looks}
    filters = {n: net.params["edges.w"][:, :, 0, 0] for n, net in nets.items()}
    most = float(np.abs(wanted).max())
    shown = list(dict.fromkeys((0, looks[0], looks[min(2, len(looks) - 1)], looks[-1])))
    yield Strip("filters", "The nine numbers on their way, and those that made the answers", (
        *(Grid(_epochs(n), np.round(filters[n], 2) + 0.0, bounds=(-most, most)) for n in shown),
        "~", Grid(_name(run), wanted),
    ))  # fmt: skip
    errors = {n: float(np.square(w - wanted).mean()) for n, w in filters.items()}
    yield Table(
        ("passes over the digits", "mean square distance from the true numbers"),
        tuple((f"{n}", f"{error:.1e}" if error > TINY else f"below {TINY:g}") for n, error in errors.items()),
    )
    last = errors[looks[-1]]
    yield Text(
        f"After {looks[-1]} passes the distance is {'below 1e-6' if last < 1e-6 else f'{last:.1e}'}. Nobody told the "
        "network what an edge is, or that left and right should cancel. It follows from the answers."
    )
    yield from _seen(data.test.x, nets[0], nets[looks[-1]])
    yield Heading("Why it works here")
    yield Text(
        "There is one answer. The loss is a square, the network is linear, so the loss is a bowl with a single lowest "
        "point, and every digit says something about all nine numbers. Real networks have millions of numbers, and "
        "functions between the layers: no bowl any more, and many answers that are equally good. But the step is the "
        "same one. [The way back](backprop.md) works it out."
    )
    yield from _without_being_told()
    yield from _exercises()
    yield Heading("Sources")
    yield Items((
        "The experiment is `cnnforge train experiment=learn_edge_filter`, with a journal and MLflow.",
        "A. Krizhevsky, I. Sutskever, G. Hinton: *ImageNet classification with deep convolutional neural networks*. "
        "NIPS 2012: its figure 3 shows what a large network's first layer finds in photographs, edges of all "
        "directions and spots of colour.",
        "The digits: E. Alpaydin, C. Kaynak: *Optical recognition of handwritten digits*. UCI Machine Learning "
        "Repository, 1998.",
    ))  # fmt: skip


def _wanted(lesson: Lesson) -> Array:
    """The filter that made the labels (3, 3). Raises ConfigErrors where the config learns something else."""
    run = lesson.run
    row = run.model.table[0]
    if not isinstance(run.data, EdgesData):
        raise lesson.off_topic(f"it learns an edge filter back, and the data are {run.data.type}", "data=edges")
    if len(run.model.table) != 1 or row.name != "edges" or row.params.keys() != {"w"} or row.param_count != 9:
        raise lesson.off_topic("it has more than nine numbers to find", "model=edge_learner")
    if run.schedule.type != "constant":
        raise lesson.off_topic("the page's training has a constant learning rate", "schedule=constant")
    return np.array(FILTERS[run.data.filter], float)


def _epochs(n: int) -> str:
    return f"{n} epoch{'s' * (n > 1)}" if n else "random"


def _name(run: RunSpec) -> str:
    assert isinstance(run.data, EdgesData)
    return run.data.filter


def trained(run: RunSpec, x: Array, y: Array, epochs: int) -> Model:
    """The run's network after so many passes: each call begins anew, with the same first weights and the same order."""
    net = built(run.model, run.seed)
    optimizer = run.optimizer.model_dump(exclude_none=True)
    net.fit(x, y, epochs=epochs, batch_size=run.trainer.batch_size, optimizer=optimizer, seed=run.seed)
    return net


def _seen(pictures: Array, before: Model, after: Model) -> Iterator[Part]:
    """A digit that was not trained on, through the random and the learned filter."""
    picture = pictures[:1].astype(float)
    first, last = (net.forward(picture)[0, :, :, 0] for net in (before, after))
    yield Pictures(
        "digit", "A digit that the network has not seen, its answer with the random filter, and with the learned one",
        (picture[0, :, :, 0] * float(np.abs(last).max()), first, last), "signed", 14,
    )  # fmt: skip


def _without_being_told() -> Iterator[Part]:
    run = validate(compose(["model=course/digits"]))
    data = load(run.data, run.model.input, run.seed)
    x, y = data.preprocessing.normalize(data.train.x), data.train.y
    net = built(run.model, run.seed)
    first = net.params["conv1.w"].copy()
    net.fit(x, y, epochs=EPOCHS, batch_size=32, optimizer={"type": "adam", "lr": 0.005})
    last = net.params["conv1.w"]
    test = net.predict(data.preprocessing.normalize(data.test.x)).argmax(1) == data.test.y
    yield Heading("A network that was not told of edges")
    yield Text(
        "Now a small network ([configs/model/course/digits.yaml](../../configs/model/course/digits.yaml)) that "
        f"learns to read the digits. It is told the digit and nothing of edges. After {EPOCHS} passes it reads "
        f"{test.mean():.0%} of those that it has not seen. What have its eight filters become?"
    )
    for name, w, caption in (
        ("before", first, "Its filters before training"),
        ("after", last, "And behind: blue is positive, red negative"),
    ):
        yield Pictures(name, caption, tuple(w[:, :, 0, i] for i in range(w.shape[-1])), "signed", 24)
    yield Table(
        ("filter", *(f"{i + 1}" for i in range(last.shape[-1]))),
        (("like an edge, before", *_percent(first)), ("like an edge, behind", *_percent(last))),
    )
    yield Text(
        "*Like an edge* is the cosine between a filter and the nearest Sobel filter, turned into any direction: "
        f"100% is a Sobel filter, and random numbers come to about {np.sqrt(2 / 9):.0%}. On average it was "
        f"{likeness(first).mean():.0%} before and is {likeness(last).mean():.0%} behind. {_verdict(first, last)}"
    )


def likeness(w: Array) -> Array:
    """(3, 3, 1, F) -> (F,): each filter's cosine with the nearest of all Sobel filters, whatever their direction."""
    flat = w.reshape(9, -1) / np.linalg.norm(w.reshape(9, -1), axis=0)
    standing, lying = (np.array(FILTERS[f"sobel_{kind}"], float).ravel() for kind in ("vertical", "horizontal"))
    along = np.stack([standing, lying]) / np.linalg.norm(standing)
    found: Array = np.linalg.norm(along @ flat, axis=0)
    return found


def _percent(w: Array) -> tuple[str, ...]:
    return tuple(f"{share:.0%}" for share in likeness(w))


def _verdict(first: Array, last: Array) -> str:
    if likeness(last).mean() > likeness(first).mean() + 0.1:
        return "Many have become edge filters: edges are what tells one digit from another."
    return (
        "That is hardly another number. Edges help, and so do strokes, spots and corners; and with so small "
        "pictures the last layer can make something of nearly any eight filters. In large networks and photographs "
        "it is different: see the sources."
    )


def _exercises() -> Iterator[Part]:
    def distance(run: RunSpec) -> str:
        data = load(run.data, run.model.input, run.seed)
        net = trained(run, data.preprocessing.normalize(data.train.x), data.train.y, run.trainer.epochs)
        error = float(np.square(net.params["edges.w"][:, :, 0, 0] - np.array(FILTERS[_name(run)], float)).mean())
        return f"the distance is {'below 1e-6' if error < 1e-6 else f'{error:.1e}'}"

    yield Exercise(
        "Does it find Scharr's numbers as well?",
        ("data.filter=scharr_vertical",),
        lambda run: f"Yes: {distance(run)}.",
    )
    yield Exercise(
        "How far does it come in a single pass?",
        ("trainer.epochs=1",),
        lambda run: f"After one pass {distance(run)}.",
    )
    yield Exercise(
        "What does a hundredth of the learning rate do?",
        ("optimizer.lr=0.0005",),
        lambda run: f"With 0.0005 {distance(run)} after the same number of passes: the steps are too short.",
    )
    yield Exercise(
        "How many digits does it take? Try ten.",
        ("data.limit=10", "trainer.batch_size=10", "trainer.epochs=2000"),
        lambda run: (
            f"Ten are enough, with many passes: {distance(run)}. Each 8x8 digit gives 36 equations for nine "
            "unknown numbers."
        ),
    )
