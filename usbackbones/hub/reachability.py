"""Check whether a host can be reached at all, in a second and a half."""

import queue
import socket
import threading
import time
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

PATIENCE = 1.5  # seconds; a lost first packet is sent again after one
_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080, "socks5h": 1080}


def why_unreachable(url: str, patience: float = PATIENCE) -> str | None:
    """Try to connect to the host of a URL, or to the proxy that the environment puts before it.

    HTTP clients try for half a minute before they give up on a network that is down. Names are looked up in a thread
    because nothing can interrupt the system's look-up, and IPv4 and IPv6 are tried at once because one of them is
    often broken.

    Args:
        url: of the server; only its scheme, host and port matter.
        patience: seconds to wait.

    Returns:
        None if something accepts connections there, or else why not.
    """
    try:
        parts = urlsplit(_proxy_for(url) or url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
    except ValueError as error:
        return f"{url} is no address: {error}"
    silence = (1, f"no answer within {patience} s")
    answers: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()  # the lower the number, the more it tells

    def connect(family: socket.AddressFamily) -> None:
        try:
            kind, protocol, _, address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][1:]
            with socket.socket(family, kind, protocol) as line:
                line.settimeout(patience)
                line.connect(address)
            answers.put(None)
        except TimeoutError:
            answers.put(silence)
        except (socket.gaierror, UnicodeError) as error:  # a label that is no host name is a UnicodeError
            answers.put((2, str(error)))  # as of an address of IPv4 that was looked up for IPv6
        except OSError as error:
            answers.put((0, str(error)))

    families = (socket.AF_INET6, socket.AF_INET)
    for family in families:
        threading.Thread(target=connect, args=(family,), daemon=True).start()
    end, reasons = time.monotonic() + patience, []
    try:
        for _ in families:
            if (reason := answers.get(timeout=max(0, end - time.monotonic()))) is None:
                return None
            reasons.append(reason)
    except queue.Empty:
        reasons.append(silence)
    return f"{host}:{port}: {min(reasons)[1]}"


def _proxy_for(url: str) -> str | None:
    """The proxy of the environment (HTTPS_PROXY, ALL_PROXY, NO_PROXY and their kin) for a URL."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
