"""An HL7 listener: a real MLLP server on loopback that follows a script, written without the library that builds."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import hl7


@dataclass
class Listener:
    """Answers message number n with script[n], then with AA: a code, or "silent", "drop", "other" or "rubbish".

    messages: as received. said: MSA-3. error: a whole ERR segment. on_message: called before a message is answered.
    """

    script: list[str] = field(default_factory=list)
    said: str = ""
    error: str = ""
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    on_message: Callable[[], object] = lambda: None

    def __enter__(self) -> Listener:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.set()
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        with connection, suppress(OSError):
            while piece := connection.recv(65536):
                data += piece
                while b"\x1c\r" in data:
                    framed, data = data.split(b"\x1c\r", 1)
                    message = framed.removeprefix(b"\x0b")
                    self.messages.append(message)
                    self.on_message()
                    how = self.script.pop(0) if self.script else "AA"
                    if how == "drop":
                        return
                    if how == "silent":
                        self._closing.wait(60)
                        return
                    connection.sendall(b"\x0b" + self._answer(message, how) + b"\x1c\r")

    def _answer(self, message: bytes, how: str) -> bytes:
        if how == "rubbish":
            return b"HTTP/1.1 200 OK"
        asked = str(hl7.parse(message.decode("utf-8", "replace"))["MSH"][0][10])
        about, code = (asked + "x", "AA") if how == "other" else (asked, how)
        segments = ["MSH|^~\\&|RIS|||||||ACK|1|P|2.5.1", f"MSA|{code}|{about}|{self.said}", self.error]
        return "\r".join(filter(None, segments)).encode() + b"\r"
