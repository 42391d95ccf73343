"""The parts of the page that Gradio has no component for, as HTML; every word of a person's is escaped."""

from __future__ import annotations

from html import escape

from dataset.counting import count_of
from visa.answer_words import plain_words
from visa.tracklet import OVERLAY_NAME, RESULT_NAME
from visa.web.desk import ANSWERS, CLIPS, MASKS_NAME, PREVIEW_NAME, TARGET_NAME, Clip, Shown
from visa.web.timeline import describe, draw_timeline

STYLE = """
.visa-message{border-radius:10px;padding:.7em 1em;font-size:1.02em}
.visa-message.wrong{background:#fdecea;color:#8c1d18;border:1px solid #f3b6b0}
.visa-message.note{background:#f3f1ec;color:#4a4842}
.visa-clip img,.visa-picture img,.visa-picture video{width:100%;max-height:62vh;object-fit:contain;
 border-radius:10px;background:#17171c;display:block}
.visa-clip p,.visa-picture figcaption{color:#7c7a76;font-size:.92em;margin:.4em 0}
.visa-clip p{overflow-wrap:anywhere}
.visa-picture{margin:0}
.visa-answer{display:flex;gap:1em;align-items:flex-start;justify-content:space-between;flex-wrap:wrap}
.visa-answer .question{color:#7c7a76;margin:0;overflow-wrap:anywhere}
.visa-answer .words{font-size:1.35em;font-weight:600;margin:.15em 0;overflow-wrap:anywhere}
.visa-pill{color:#fff;border-radius:99px;padding:.25em .9em;white-space:nowrap}
.visa-pill.yes{background:#188054}.visa-pill.no{background:#b05810}
.visa-pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr));gap:18px;
 margin:14px 0}
svg.timeline{width:100%;height:auto;overflow:visible}
svg.timeline .line{fill:#e9e7e2}svg.timeline .here{fill:#ff2d78}
svg.timeline .looked{fill:#008fc0;stroke:#fff;stroke-width:1.5}
svg.timeline .target{fill:#1c1c22;stroke:#1c1c22;stroke-width:2.5}
svg.timeline .scale{font-size:13px;fill:#7c7a76}
.visa-legend{display:flex;gap:1.4em;flex-wrap:wrap;color:#7c7a76;font-size:.92em;margin:.2em 0 1em}
.visa-legend i{display:inline-block;width:.8em;height:.8em;border-radius:3px;margin-right:.4em}
.visa-downloads{display:flex;gap:.8em;flex-wrap:wrap}
.visa-downloads a{border:1px solid #cfccc4;border-radius:8px;padding:.45em 1em;color:inherit;
 text-decoration:none}
.visa-downloads a:hover{background:#f3f1ec;color:#1c1c22}
"""


def message(words: object, *, is_wrong: bool = True) -> str:
    """One line for the visitor; what went wrong is read out at once."""
    kind, role = ("wrong", "alert") if is_wrong else ("note", "status")
    return f'<div class="visa-message {kind}" role="{role}">{escape(" ".join(str(words).split()))}</div>'


def show_clip(clip: Clip) -> str:
    """What was uploaded: a picture of its middle, its measures and what is wrong with it."""
    measures = (
        f"{count_of(clip.num_frames, 'frame')} · {clip.num_frames / clip.fps:.1f} s · "
        f"{clip.width}×{clip.height} · {clip.fps:.4g} frames/s"
    )
    warnings = "".join(message(line, is_wrong=False) for line in clip.warnings)
    return (
        f'<div class="visa-clip"><img alt="the middle frame" src="/{CLIPS}/{clip.key}/{PREVIEW_NAME}">'
        f"<p><b>{escape(clip.name)}</b> · {measures}</p>{warnings}</div>"
    )


def show_answer(shown: Shown) -> str:
    """Everything about one answer: words, pictures, line of time, downloads."""
    return _words(shown) + _pictures(shown) + _time(shown) + _downloads(shown)


def _words(shown: Shown) -> str:
    verdict = f"found · score {shown.score:.2f}" if shown.found else "not found"
    if shown.num_objects > 1:
        verdict = f"{shown.num_objects} objects {verdict}"
    return (
        f'<div class="visa-answer"><div><p class="question">{escape(shown.question)}</p>'
        f'<p class="words">{escape(plain_words(shown.answer))}</p></div>'
        f'<span class="visa-pill {"yes" if shown.found else "no"}">{verdict}</span></div>'
        + "".join(message(line, is_wrong=False) for line in shown.warnings)
    )


def _pictures(shown: Shown) -> str:
    if not shown.found:
        return message("The clip does not show what was asked for, so there are no masks.", is_wrong=False)
    folder = f"/{ANSWERS}/{shown.key}"
    return (
        '<div class="visa-pictures">'
        '<figure class="visa-picture">'
        f'<video controls loop muted autoplay playsinline src="{folder}/{OVERLAY_NAME}"></video>'
        "<figcaption>the masks over the clip</figcaption></figure>"
        '<figure class="visa-picture">'
        f'<img alt="the target frame with its mask" src="{folder}/{TARGET_NAME}">'
        f"<figcaption>target frame {shown.target}: segmented here, carried to the others</figcaption>"
        "</figure></div>"
    )


def _time(shown: Shown) -> str:
    legend = (
        ("#ff2d78", "the object is here"),
        ("#008fc0", "looked at to answer"),
        ("#1c1c22", "target frame"),
    )
    keys = "".join(f'<span><i style="background:{colour}"></i>{words}</span>' for colour, words in legend)
    line = draw_timeline(shown.areas, shown.looked_at, shown.target, shown.fps)
    words = describe(shown.areas, shown.looked_at, shown.target)
    return f'{line}<div class="visa-legend">{keys}<span class="visa-in-words">{words}</span></div>'


def _downloads(shown: Shown) -> str:
    links = [(MASKS_NAME, "masks (PNG, in a zip)"), (RESULT_NAME, "result.json (COCO run lengths)")]
    if shown.found:
        links.append((OVERLAY_NAME, "video with masks"))
    items = "".join(
        f'<a href="/{ANSWERS}/{shown.key}/{name}" download="{name}">{words}</a>' for name, words in links
    )
    return f'<div class="visa-downloads">{items}</div>'
