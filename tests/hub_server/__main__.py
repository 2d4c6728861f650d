"""Start a Hub in a folder and say how to use it.

    python -m tests.hub_server --folder ~/hub

Then, in another terminal after the line that it prints, `python -m training.release push`,
`timm.create_model("hf-hub:...")` and everything else that speaks to a Hub go there.
"""

from pathlib import Path

import tyro

from tests.hub_server.server import LoopbackHub


def serve(folder: Path, port: int = 8480, host: str = "127.0.0.1", token: str = "hf_loopback") -> None:
    """Serve the repositories in a folder until Ctrl-C. Not for the open internet: no encryption, one token.

    Args:
        folder: where the repositories are kept; made if missing.
        port: of the Hub; its store of large files takes the next one.
        host: address to listen at; 0.0.0.0 serves the house and not only this machine.
        token: who has it may read and write everything; others read what is neither private nor gated.
    """
    with LoopbackHub(folder, frozenset({token}), host=host, port=port) as hub:
        print(
            f"export HF_ENDPOINT={hub.url} HF_TOKEN={token} HF_HUB_DISABLE_XET=1\n"
            "This line makes another terminal use it. Ctrl-C stops it.",
            flush=True,
        )
        try:
            hub.wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    tyro.cli(serve)
