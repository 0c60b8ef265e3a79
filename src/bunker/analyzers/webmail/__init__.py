"""`webmail`: mails that people read and write in web pages, as messages for whoever subscribes to `mail`.

Place in the flow: HTTP transactions ▶ here ▶ analyzers of mails (`mail`, `spamassassin`, users' own), proto "webmail".

| command | what it was | what is known of the mail |
|---|---|---|
| PAGE | a page that shows it | From, To, Cc, Subject, Date, one body; no transport headers |
| SOURCE | its source, as some mailers show it | all of it |
| SEND | a form that sent it | From, To, Cc, Bcc, Subject, what was typed |

Rules of this file:
1. The highest view wins for one transaction: source, then sent, then page. Two views of one mail are two messages:
   they came from two transactions, and only the server knows that they are one.
2. A page that should show a mail and yields no body is still a message, with size 0: the loss can be counted.
3. Script is never run; what it would have put into the page is read as a string.

Source: section 5 of the paper (Hotmail); markup facts in the project's notes on applications. Products are data:
`products.py`.
"""

from __future__ import annotations

from bunker.analyzers.webmail.letter import found
from bunker.analyzers.webmail.products import MAYBE, PRODUCTS
from bunker.analyzers.webmail.views import request_of
from bunker.api import Emit, feeder, http

__all__ = ["webmail"]


@feeder("mail", needs={"bodies"})
def webmail(tx: http.Transaction, emit: Emit) -> None:
    """Find the mail that a transaction shows or sends."""
    uri = tx.uri
    if uri is None or not MAYBE.search(uri):
        return
    request = request_of(tx, uri)
    if request is None:
        return
    letters = (view.read(tx) for view in PRODUCTS if view.place.fits(request))
    letter = next((letter for letter in letters if letter is not None), None)
    if letter is not None:
        emit(found(tx, letter))
