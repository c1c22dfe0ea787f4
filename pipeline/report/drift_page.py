"""One HTML page of what the drift gate saw: no script, nothing from a network, so it opens anywhere, years from now.

All that comes from data (identities, paths, reasons) goes through `charts.escape`. Images are shrunk and written anew
as PNG, so nothing of a file but its pixels gets into the page.
"""

import base64
import io
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from PIL import Image

from longtail.pipeline.report import charts
from longtail.pipeline.report import drift_view

_THUMBNAIL = 112  # pixels
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5b6670;--paper:#fff;--card:#f5f6f8;--line:#d5dae0;
--current:#b3541e;--baseline:#3b6ea5;--bad:#b3261e;--good:#2c7a3f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#a3adb7;--paper:#14181c;--card:#1d2329;--line:#39424b;
--current:#f0975a;--baseline:#7fb0e6;--bad:#ff8a80;--good:#7fd095}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:75rem;padding:1rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:0}
p{margin:.4rem 0}.soft,figcaption{color:var(--soft);font-size:.875rem}
.refused,.drifted{color:var(--bad);font-weight:600}.accepted,.ok{color:var(--good)}.overridden{color:var(--current)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
td.n,th.n{text-align:right}
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem;margin:.8rem 0}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr));gap:.8rem}
figure{margin:0}svg{display:block;width:100%;height:auto}svg text{font-size:11px;fill:var(--soft)}
.axis{stroke:var(--line)}rect.current{fill:var(--current)}rect.baseline{fill:var(--baseline)}
.line{fill:none;stroke:var(--soft);stroke-width:1.5}.threshold{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:4 3}
path.good{fill:var(--good)}path.bad{fill:none;stroke:var(--bad);stroke-width:2.5}
.images{display:grid;grid-template-columns:repeat(3,minmax(0,7rem));gap:.6rem}
.images img{display:block;width:100%;aspect-ratio:1;object-fit:contain;background:var(--card);
border:1px solid var(--line)}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.2rem}
"""


def render(view: drift_view.View) -> str:
    """The page."""
    place, report = view.place, view.report
    title = f"Drift of span {place.span}, {place.recipe}"
    body = [
        f"<h1>{charts.escape(title)}</h1>",
        f'<p class="{charts.escape(report["verdict"])}">{charts.escape(headline(report))}</p>',
        *(f'<p class="soft">{charts.escape(line)}</p>' for line in (*report.get("notes", ()), *view.missing)),
        _schema(report["schema"]),
        _table(report),
        _examples(view),
        "<h2>Distributions</h2>",
        '<p class="soft">Two charts of shares of the images, what it was compared with before what is new, over the '
        "same buckets; then the distances of every span that was judged. A dash is a span's threshold, a cross a "
        "distance beyond it.</p>",
        *(_feature(view, row) for row in report["features"]),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Whatever a name in the data may try, a browser loads and runs nothing for this page.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{charts.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def headline(report: dict[str, Any]) -> str:
    """One sentence of what became of a span, and why."""
    far = [row for row in report["features"] if row["verdict"] != "ok"]
    skewed = _names(row for row in far if _is_skew(row))
    drifted = _names(row for row in far if not _is_skew(row))
    broken = _names({"feature": row["feature"] or "the data set"} for row in report["schema"])
    whys = [
        *([f"it breaks the schema in {broken}"] if broken else []),
        *([f"it differs from {compared(report)} in {drifted}"] if drifted else []),
        *([f"what serving is asked about differs from it in {skewed}"] if skewed else []),
    ]
    why = " and ".join(whys) or f"nothing differs from {compared(report)}"
    if report["verdict"] == "overridden":
        return f"Span {report['span']} was accepted although {why}. The reason given: {report['accept_drift']}"
    if report["cold_start"] and not whys:
        why = "the first, with nothing to compare it with"
    return f"Span {report['span']} was {report['verdict']}: {why}."


def _names(rows: Iterable[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(row["feature"] for row in rows))


def _is_skew(row: dict[str, Any]) -> bool:
    return row.get("kind") == "skew"


def compared(report: dict[str, Any]) -> str:
    """What a span was compared with."""
    if report["cold_start"]:
        return "nothing"
    if report["baseline_span"] == report["span"]:
        return f"what was accepted as span {report['span']} before"
    return f"span {report['baseline_span']}"


def _figures(row: dict[str, Any]) -> list[str]:
    """Distance and threshold as a reader reads them."""
    return ["-" if row[key] is None else charts.number(row[key]) for key in ("distance", "threshold")]


def _table(report: dict[str, Any]) -> str:
    # The verdict stands early: at a phone's width the last columns have to be scrolled to.
    heads = ("feature", "verdict", "distance", "threshold", "measure", "kind", "compared with")
    head = "".join(f'<th scope="col"{_class("n" if name in heads[2:4] else "")}>{name}</th>' for name in heads)
    rows = []
    for row in report["features"]:
        against = "training" if _is_skew(row) else compared(report)
        texts = (row["measure"] or "-", row.get("kind", "drift"), against)
        cells = [
            ("", row["feature"]),
            (_verdict(row), row["verdict"]),
            *(("n", figure) for figure in _figures(row)),
            *(("", text) for text in texts),
        ]
        rows.append("<tr>" + "".join(f"<td{_class(kind)}>{charts.escape(text)}</td>" for kind, text in cells) + "</tr>")
    caption = "Every distance that was measured, the farthest beyond its threshold first. Narrow screens scroll it."
    return (
        f'<h2>Distances</h2><p class="soft">{caption}</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Distances">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _verdict(row: dict[str, Any]) -> str:
    """The class of a row's verdict: what could not be compared is as bad as drift."""
    return "ok" if row["verdict"] == "ok" else "drifted"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _schema(rows: list[dict[str, str]]) -> str:
    if not rows:
        return ""
    items = "".join(
        f"<li><b>{charts.escape(row['feature'] or 'the data set')}</b>, split {charts.escape(row['split'])}: "
        f"{charts.escape(row['detail'] or row['problem'])}</li>"
        for row in rows
    )
    return f"<h2>The schema is broken</h2><ul>{items}</ul>"


def _examples(view: drift_view.View) -> str:
    """Images of both sides at the extremes of the feature that shifted most."""
    row = drift_view.largest(view)
    if row is None or view.current is None:
        return ""
    shown = "".join(
        f"<div><h3>{charts.escape(name)}</h3>{_grid(pictures, row['feature'])}</div>"
        for name, pictures in drift_view.sides(view, row)
    )
    why = ", which shifted most" if row["distance"] else ""
    return (
        f"<h2>Images</h2><p>By <code>{charts.escape(row['feature'])}</code>{why}: of numbers the lowest, some of the "
        "middle and the highest; of words those that became most.</p>"
        f'<div class="sides">{shown}</div>'
    )


def _grid(pictures: list[drift_view.Picture], feature: str) -> str:
    if not pictures:
        return "<p>There is none any more.</p>"
    return f'<div class="images">{"".join(_image(picture, feature) for picture in pictures)}</div>'


def _image(picture: drift_view.Picture, feature: str) -> str:
    value = picture.values[feature]
    value = charts.number(value) if isinstance(value, float | int) else value
    said = ", ".join(filter(None, (picture.path, f"{feature} {value}")))
    return (
        f'<figure><img src="data:image/png;base64,{_thumbnail(picture.encoded)}" alt="{charts.escape(said)}" '
        f'title="{charts.escape(said)}"><figcaption>{charts.escape(value)}</figcaption></figure>'
    )


def _thumbnail(encoded: bytes) -> str:
    # As ingestion decoded it: what Pillow makes of an odd file may be another thing, or nothing.
    image = Image.fromarray(tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy())
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def _feature(view: drift_view.View, row: dict[str, Any]) -> str:
    names = ("training", "requests to serving") if _is_skew(row) else (compared(view.report), f"span {view.place.span}")
    found = drift_view.histogram(view, row) or {}
    figures = [
        _bars(row["feature"], found, side, name)
        for side, name in zip(("baseline", "current"), names, strict=True)
        if any(found.get(side, ()))
    ]
    points = [
        (one["span"], past["distance"], past["threshold"], past["verdict"] != "ok")
        for one in view.history
        for past in one["features"]
        if [past.get(key) for key in _SAME] == [row.get(key) for key in _SAME] and past["distance"] is not None
    ]
    if points:
        figures.append(_figure(charts.line(points, f"{row['feature']}: distances over spans"), "distance over spans"))
    words = f'<p class="soft">Bars: {charts.escape(", ".join(found["words"]))}</p>' if "words" in found else ""
    distance, threshold = _figures(row)
    return (
        f'<section class="card"><h3><code>{charts.escape(row["feature"])}</code> '
        f'<span class="soft">{charts.escape(row.get("kind", "drift"))}</span></h3>'
        f"<p>{charts.escape(row['measure'] or '')} {distance}, threshold {threshold}: "
        f'<span class="{_verdict(row)}">{charts.escape(row["verdict"])}</span></p>'
        f'<div class="charts">{"".join(figures)}</div>{words}</section>'
    )


_SAME = ("kind", "feature", "split")


def _bars(feature: str, found: dict[str, Any], side: str, name: str) -> str:
    shares = found[side]
    if "words" in found:
        names, ticks = found["words"], ["", ""]
    else:
        ends = [charts.number(end) for end in found["ends"]]
        names = [f"{low} to {high}" for low, high in zip(ends[:-1], ends[1:], strict=True)]
        ticks = [ends[0], ends[len(ends) // 2], ends[-1]] if len(ends) > 2 else [charts.number(sum(found["ends"]) / 2)]
    top = max(*found["current"], *found["baseline"])
    fullest = names[shares.index(max(shares))]
    title = f"{feature}, {name}: most images, {100 * max(shares):.0f}%, at {fullest}"
    return _figure(charts.bars(shares, names, ticks, top, side, title), name)


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{charts.escape(caption)}</figcaption></figure>"
