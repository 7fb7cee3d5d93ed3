"""PowerDNS's Lua in this process: `routing.lua` decides, and a test says where the client is and what is down."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lupa.luajit21 as lupa

import mailinfra.sandbox.dns as package
from mailinfra.sandbox.dns.geo import COUNTRIES
from mailinfra.sandbox.dns.translate import ROUTING_LUA, Node, lua_content

ROUTING = Path(package.__file__).with_name("routing.lua")


def code_of(content: str) -> str:
    """The Lua code of a LUA record's content, unescaped as PowerDNS unescapes it."""
    match = re.fullmatch(r'[A-Z0-9]+ "((?:[^"\\]|\\.)*)"', content, re.DOTALL)
    assert match is not None, content
    code = re.sub(r"\\(\d{3}|.)", lambda m: chr(int(m[1])) if m[1].isdigit() else m[1], match[1])
    assert code.startswith(";")
    return code[1:]


class Resolver:
    """Asks answer trees as a client in `country`; health checks in `down` fail."""

    def __init__(self, folder: Path, country: str = "DE", down: tuple[str, ...] = (), seed: int = 1) -> None:
        self._dice = random.Random(seed)
        for name in down:
            (folder / name).touch()
        self._lua = lupa.LuaRuntime(unpack_returned_tuples=True)
        set_global: Callable[[str, object], None] = self._lua.eval("function(k, v) _G[k] = v end")
        continent, latitude, longitude = COUNTRIES.get(country, ("", 0.0, 0.0))
        set_global("MAILINFRA_DOWN", f"{folder}/")
        set_global("country", lambda code: code == country)
        set_global("continent", lambda code: code == continent)
        set_global("region", lambda code: code == "CA" and country == "US")
        set_global("latlon", lambda: f"{latitude:f} {longitude:f}")
        set_global("pickwrandom", self._pick)
        # The record names the file by its place on the name server.
        self._lua.execute("local real = dofile; function dofile(path) return real(MAP[path]) end")
        set_global("MAP", self._lua.table_from({ROUTING_LUA: str(ROUTING)}))

    def _pick(self, lots: Any) -> str:
        pairs = [(lot[1], lot[2]) for lot in lots.values()]
        assert all(weight > 0 for weight, _ in pairs), pairs
        return str(self._dice.choices([name for _, name in pairs], [weight for weight, _ in pairs])[0])

    def ask(self, tree: Node | str) -> list[str]:
        """The answer to one question: of a tree, or of a LUA record's content."""
        content = tree if isinstance(tree, str) else lua_content("A", tree, "test")
        return [str(v) for v in self._lua.execute(code_of(content)).values()]
