"""The style of reports, and the policy that allows nothing but this style."""

import base64
import hashlib

STYLE = """
:root { color-scheme: light; }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1b2330; background: #fff;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .5rem; border-bottom: 1px solid #d5dbe3; font-size: 1.15rem; }
.quiet, figcaption { color: #5a6676; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #e6eaef; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem; }
figure { margin: 0; max-width: 26rem; break-inside: avoid; }
figure svg { width: 100%; height: auto; }
figcaption { font-size: .85rem; }
pre { overflow-wrap: anywhere; white-space: pre-wrap; font-size: .85rem; }
@page { margin: 15mm; }
@media print {
  body { margin: 0; max-width: none; font-size: 11px; }
  .charts { grid-template-columns: 1fr 1fr; }
  h2 { break-after: avoid; }
  tr, li { break-inside: avoid; }
}
"""
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
# The file has no script, loads nothing, and can't be framed.
POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; form-action 'none'"
REPORT_HEADERS = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'; sandbox"}
