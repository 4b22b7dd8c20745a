"""The console: `holdfast ui`, a journal and its cluster in a browser. Needs the extra `ui`.

Pages are made on the server and work without a script; a little JavaScript saves reloading them. They are built on
`holdfast.runtime.inspection`, so no page ever keeps a writer waiting, and on an onlooker in the cluster, if there is
one.

    serve ── app ── guard              who may look, and what a browser may do with the answer
              └──── a page each: streams · timeline · events · live · followers · health · changes
                     ├── console       what they share: source (the journal), onlooker (the cluster)
                     └── rendering     templates ── shown (text and values made fit for a page) ── graph ── addresses
"""

from .app import app_of
from .console import Console
from .guard import Keys
from .onlooker import Onlooker, onlooker_at
from .serve import is_loopback, serve
from .source import Source

__all__ = ["Console", "Keys", "Onlooker", "Source", "app_of", "is_loopback", "onlooker_at", "serve"]
