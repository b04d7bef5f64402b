"""The demo page: Gradio's blocks around a Demonstrator, served on this machine only unless asked otherwise."""

from __future__ import annotations

import contextlib
import html
import http.cookies
import ipaddress
import os
import secrets
import socket
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkeras.demo.answers import Demonstrator, Fooled, examples, measured
from tlkeras.errors import ConfigError, ImageError, TlkerasError

ANY_CLASS = "any other class"
MOST_CLASSES = 5
LARGEST_UPLOAD = "100mb"
# Photos that were uploaded are deleted after this many seconds, and all of them when the page ends.
KEPT_SECONDS = 600
# Gradio's third button would put the picture on a public page.
PICTURE_BUTTONS = ["download", "fullscreen"]
CSS = """
.gradio-container { max-width: 1080px !important; margin: 0 auto !important; }
#problem { border-left: 4px solid #b3412e; padding: .6rem .9rem; background: #fbeae7; color: #6d1f12; }
#summary { padding: .3rem 0; font-size: 1.05rem; }
:is(#photo, #heat, #before, #change, #after) img { width: 100%; height: 100%; object-fit: contain; }
footer { display: none !important; }
"""


def gradio() -> Any:
    """Gradio, told to keep to itself before it is imported.

    Raises: ConfigError, with the command that installs it, where it is missing.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise ConfigError(
            f"the demo page needs Gradio, which cannot be imported ({error})",
            next_step="Install it with: pip install 'tlkeras[demo]'",
        ) from None
    return gradio


def build(demonstrator: Demonstrator, run: str | Path, folder: Path) -> Any:
    """The page as Gradio ``Blocks``. ``run``: where figures and held-out photos are looked for.

    ``folder``: of our own. Uploads lie in it, examples are written into it, and no file outside it is ever opened for
    a visitor, whatever path a request names.
    """
    gr = gradio()
    names = demonstrator.class_names
    uploads, shown = folder / "uploads", folder / "examples"
    uploads.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)

    def look(photo: str | None) -> list[Any]:
        cleared = _no_outcome(gr)
        if photo is None:
            return [_problem(gr, ""), None, None, *cleared]
        try:
            answer = demonstrator.answer(uploaded(photo, uploads))
        except TlkerasError as error:
            return [_problem(gr, str(error)), None, None, *cleared]
        heat = gr.update(value=answer.heat, label=f"Why {answer.label} ({answer.faithful})")
        return [_problem(gr, ""), answer.probabilities, heat, *cleared]

    def fool(photo: str | None, to: int, epsilon_255: float) -> list[Any]:
        if photo is None:
            return [_problem(gr, "Choose a photo first."), *_no_outcome(gr)]
        try:
            made = demonstrator.fool(uploaded(photo, uploads), None if to < 0 else to, epsilon_255)
        except TlkerasError as error:
            return [_problem(gr, str(error)), *_no_outcome(gr)]
        return [_problem(gr, ""), *_outcome(gr, made)]

    with gr.Blocks(title="tlkeras demo", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(_heading(run, names))
        problem = gr.HTML(visible=False, elem_id="problem")
        with gr.Row(equal_height=True):
            photo = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                label="Photo",
                height=340,
                buttons=PICTURE_BUTTONS[1:],
                elem_id="photo",
            )
            # Our decoder reads the file as it was uploaded, and says what is wrong with it.
            photo.preprocess = lambda payload: payload and payload.path
            # Gradio fetches an address that a request names in place of a file. Nothing is asked of anyone else here.
            photo.async_move_resource_to_block_cache = _as_it_lies
            heat = gr.Image(
                label="Where it looks", interactive=False, height=340, buttons=PICTURE_BUTTONS, elem_id="heat"
            )
            answer = gr.Label(num_top_classes=MOST_CLASSES, label="Classes", elem_id="answer")
        if known := examples(run, shown):
            gr.Examples(known, photo, label="Photos that it has not learned from", cache_examples=False)
        with gr.Row(equal_height=True):
            to = gr.Dropdown(
                [(ANY_CLASS, -1), *((name, k) for k, name in enumerate(names))],
                value=-1,
                label="Make it take the photo for",
                min_width=260,
                elem_id="to",
            )
            epsilon = gr.Slider(1, 16, value=4, step=1, label="Largest change, of 255", min_width=260)
            button = gr.Button("Make an adversarial version", variant="primary", elem_id="fool")
        with gr.Column(visible=False) as result:
            summary = gr.HTML(elem_id="summary")
            with gr.Row():
                before, change, after = (
                    gr.Image(
                        label=label,
                        interactive=False,
                        format="png",
                        height=290,
                        buttons=PICTURE_BUTTONS,
                        elem_id=name,
                    )
                    for name, label in (("before", "Before"), ("change", "Change"), ("after", "After"))
                )
            with gr.Row():
                said_before, said_after = (
                    gr.Label(num_top_classes=MOST_CLASSES, label=label, elem_id=name)
                    for name, label in (("said-before", "Before"), ("said-after", "After, from the saved PNG"))
                )
        outcome = [result, summary, before, change, after, said_before, said_after]
        photo.change(look, photo, [problem, answer, heat, *outcome], show_progress="minimal", api_visibility="private")
        button.click(fool, [photo, to, epsilon], [problem, *outcome], api_visibility="private")
    return page


@contextlib.contextmanager
def serving(
    run: str | Path, *, host: str = "127.0.0.1", port: int = 7860, auth: tuple[str, str] | None = None
) -> Iterator[str]:
    """Serve the page of a run; gives its address, and ends the server with the block.

    ``port``: 0 takes a free one. ``auth``: name and password that visitors must give. Where others than this machine
    can reach ``host`` and there is none, the address carries a token, and who lacks it is let in nowhere. Nothing is
    sent anywhere: no telemetry, no share link, no fonts from elsewhere. Uploaded photos lie in a temporary folder that
    is deleted at the end.

    Raises: ConfigError without Gradio, or for a host or a port that cannot be used; ClassifierError.
    """
    gr = gradio()
    port = _free_port(host, port)
    demonstrator = Demonstrator(run)
    demonstrator.warm_up()
    token = "" if auth is not None or _loopback(host) else secrets.token_urlsafe(24)
    guard = {"middleware": [_middleware(token)]} if token else {}
    with tempfile.TemporaryDirectory(prefix="tlkeras-demo-") as folder:
        page = build(demonstrator, run, Path(folder).resolve())
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                theme=_theme(gr),
                css=CSS,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                mcp_server=False,
                run_history=False,
                footer_links=[],
                max_file_size=LARGEST_UPLOAD,
                auth=auth,
                app_kwargs=guard,
            )
        except ValueError as error:
            # Gradio asks its own page for a sign of life and wants to publish it where none comes.
            page.close(verbose=False)
            raise ConfigError(
                f"the page on {host}:{port} does not answer this machine itself ({type(error).__name__} in Gradio)",
                next_step="Take it out of the proxy (NO_PROXY=127.0.0.1,localhost), or try again on a quieter machine.",
            ) from None
        try:
            yield f"{address}?token={token}" if token else address
        finally:
            page.close(verbose=False)


def _theme(gr: Any) -> Any:
    """Fonts of the machine, and colours that can be read on each other."""
    fonts = ("system-ui", "sans-serif")
    theme = gr.themes.Soft(primary_hue="emerald", font=fonts, font_mono=("ui-monospace", "monospace"))
    colours: dict[str, str] = {}
    for dark, text, fill in (("", "*neutral_800", "*neutral_100"), ("_dark", "*neutral_100", "*neutral_700")):
        for part in ("block_label", "block_title"):
            colours |= {f"{part}_text_color{dark}": text, f"{part}_background_fill{dark}": fill}
        colours |= {f"button_primary_background_fill{dark}": "*primary_800"}
        colours |= {f"button_primary_background_fill_hover{dark}": "*primary_900"}
    return theme.set(**colours)


def uploaded(photo: str, folder: Path) -> Path:
    """The file of an upload; a request may name any path, and what lies elsewhere is neither opened nor told of.

    Raises: ImageError unless ``photo``, links followed, is a regular file inside ``folder`` (which is resolved).
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # names that are too long, a NUL byte, rings of links
        path = Path(photo).resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    raise ImageError("missing", "only a photo that was uploaded to this page can be opened")


async def _as_it_lies(path: str) -> str:
    return path


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _middleware(token: str) -> Any:
    """Starlette's middleware that lets in who brings the token, first in the address, then in a cookie."""
    from starlette.middleware import Middleware

    return Middleware(_Guard, token=token)


class _Guard:
    """An ASGI application around another: 401 for every request without the token, files and uploads included."""

    COOKIE = "tlkeras-token"

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse, RedirectResponse

        # Gradio asks its own page to start; that answers nothing.
        if scope["type"] == "lifespan" or scope["path"].endswith("/startup-events"):
            return await self.app(scope, receive, send)
        given = urllib.parse.parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["type"] == "http" and self._right(given):
            response: Any = RedirectResponse(scope["path"], 303)
            response.set_cookie(self.COOKIE, self.token, httponly=True, samesite="strict")
        elif self._right(_cookie(scope, self.COOKIE)):
            return await self.app(scope, receive, send)
        else:
            response = PlainTextResponse("Open the page by the whole address that 'tlkeras demo' printed.", 401)
        return await response(scope, receive, send)

    def _right(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(errors="replace"), self.token.encode())


def _cookie(scope: Any, name: str) -> str:
    lines = (value.decode("latin-1") for key, value in scope["headers"] if key == b"cookie")
    for line in lines:
        with contextlib.suppress(http.cookies.CookieError):
            cookie = http.cookies.SimpleCookie(line)
            if name in cookie:
                return cookie[name].value
    return ""


def _problem(gr: Any, line: str) -> Any:
    return gr.update(value=f'<div role="alert">{html.escape(line)}</div>' if line else "", visible=bool(line))


def _no_outcome(gr: Any) -> list[Any]:
    return [gr.update(visible=False), "", None, None, None, None, None]


def _outcome(gr: Any, made: Fooled) -> list[Any]:
    return [
        gr.update(visible=True),
        html.escape(made.summary),
        made.before,
        gr.update(value=made.change, label=f"Change × {made.factor}, around grey"),
        made.after,
        made.before_probabilities,
        made.after_probabilities,
    ]


def _heading(run: str | Path, names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    line = f"It knows {len(names)} classes: {shown}."
    found = measured(run)
    if "accuracy" in found and "accuracy_interval" in found:
        share, (low, high) = found["accuracy"], found["accuracy_interval"]
        line += f" Of {found['images']:,} unseen photos it had {share:.1%} right (95 %: {low:.1%} to {high:.1%})."
    return f"# {html.escape(Path(run).name)}\n{html.escape(line)}"


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0; Gradio would answer a taken one with a traceback."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except (OSError, OverflowError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"cannot listen on {host}:{port} ({words})", next_step="Give another --port, or 0 for a free one."
            ) from None
        return int(tried.getsockname()[1])
