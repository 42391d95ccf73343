"""A page in the browser: upload a clip, ask, see and download the masks. `python -m visa.web`.

Bound to 127.0.0.1. Gradio draws the page (`page.py`); what it does not do is done here: it lets anybody who
knows a file's path fetch it, so every visitor has a folder that only their cookie opens (`visitors.py`,
`guard.py`), and it takes any file, so an upload is checked before a decoder sees it (`limits.py`).
"""
