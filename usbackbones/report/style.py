"""The look that reports and the page of weights share: light and dark, phone and desktop, nothing loaded."""

CATEGORIES = 8
"""Colors that tell classes and groups apart; each also has a shape of its own."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f5f7f9; --line: #cfd6dd; --ink: #16202a; --soft: #4c5a67;
  --accent: #0a5c8c; --accent-ink: #ffffff; --warn: #8a3b00; --warn-ground: #fff4e5; --heat: 10, 92, 140;
  --c0: #0072b2; --c1: #c44e00; --c2: #007a5a; --c3: #a83f7f; --c4: #7a6000; --c5: #3b6fd6;
  --c6: #8c2d2d; --c7: #555555;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #10161c; --raised: #1a222b; --line: #3a4753; --ink: #e8edf2; --soft: #aab6c2;
    --accent: #6cc3f5; --accent-ink: #06202f; --warn: #ffc27a; --warn-ground: #33240f; --heat: 108, 195, 245;
    --c0: #56b4e9; --c1: #ff9a4d; --c2: #3fd1a5; --c3: #f08cc4; --c4: #e6c84f; --c5: #9db8ff;
    --c6: #ff8f8f; --c7: #c3c3c3;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.25rem clamp(0.9rem, 3vw, 2.5rem) 4rem; max-width: 78rem;
  background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0.4rem 0; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 0.4rem; }
h3 { font-size: 1.02rem; margin: 1rem 0 0.3rem; }
p { margin: 0.4rem 0; max-width: 70ch; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
code, pre { font: 0.875rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.soft, .note, figcaption, .tick { color: var(--soft); }
.note, figcaption { font-size: 0.9rem; }
.warning {
  background: var(--warn-ground); color: var(--warn); border-left: 4px solid var(--warn);
  padding: 0.5rem 0.9rem; margin: 0.8rem 0; max-width: none;
}
dl.facts {
  display: grid; grid-template-columns: minmax(6rem, max-content) minmax(0, 1fr);
  gap: 0.2rem 1.1rem; margin: 0.8rem 0;
}
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; }
nav ul { list-style: none; padding: 0; margin: 0.8rem 0; display: flex; flex-wrap: wrap; gap: 0.35rem 1.1rem; }
section { border-top: 1px solid var(--line); margin-top: 1.8rem; padding-top: 1.2rem; }
.wide {
  overflow-x: auto; max-width: 100%; margin: 0.6rem 0;
  /* A shadow at an edge behind which the table goes on: two covers that scroll along, over two shadows that do not. */
  background:
    linear-gradient(to right, var(--ground) 40%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--ground) 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--line), transparent) left / 0.9rem 100% no-repeat scroll,
    linear-gradient(to left, var(--line), transparent) right / 0.9rem 100% no-repeat scroll;
}
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.32rem 0.75rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { padding-left: 0.4rem; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; min-width: 7.5rem; overflow-wrap: anywhere; }
.interval { white-space: nowrap; }
tr.ours th, tr.ours td { font-weight: 650; background: var(--raised); }
.row { display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; align-items: flex-start; }
.row > * { flex: 1 1 19rem; min-width: 0; max-width: 38rem; margin: 0; }
figure { margin: 0.6rem 0; }
.gallery {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr));
  gap: 0.8rem; margin: 0.6rem 0;
}
.pairs {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr));
  gap: 1rem 1.6rem; margin: 0.6rem 0;
}
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0.4rem; }
.gallery figure, .pair figure { margin: 0; }
.gallery img, figure img { display: block; width: 100%; height: auto; background: #000; border-radius: 3px; }
.gallery.query { border-top: 1px dotted var(--line); padding-top: 0.7rem; }
.gallery figure.first img { outline: 3px solid var(--accent); outline-offset: 1px; }
figcaption { margin-top: 0.25rem; font-size: 0.82rem; line-height: 1.35; }
svg { display: block; width: 100%; height: auto; max-width: 38rem; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--line); stroke-width: 1; fill: none; }
svg .guide { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 4; fill: none; }
svg .curve { fill: none; stroke-width: 2; }
svg .bar { fill: var(--accent); }
.whiskers { list-style: none; padding: 0; margin: 0.6rem 0; max-width: 62rem; }
.whiskers li {
  display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr) minmax(10.5rem, 3fr);
  gap: 0 1rem; align-items: center; border-bottom: 1px solid var(--line); padding: 0.3rem 0;
}
@media (max-width: 40rem) { .whiskers li { grid-template-columns: minmax(0, 1fr); } }
.legend {
  list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem;
  padding: 0; margin: 0.3rem 0; font-size: 0.9rem;
}
.legend svg { display: inline-block; width: 0.9rem; height: 0.9rem; vertical-align: -0.1rem; margin-right: 0.35rem; }
@media (max-width: 30rem) { th, td { padding: 0.3rem 0.4rem; } tbody th { min-width: 5.5rem; } }
table.confusion td, table.confusion thead th { text-align: right; }
table.confusion thead th:first-child { text-align: left; }
footer { margin-top: 2rem; }
@media print { body { max-width: none; } section { break-inside: avoid; } }
"""
STYLE += "".join(
    f".f{n} {{ fill: var(--c{n}); }} .s{n} {{ stroke: var(--c{n}); }}\n" for n in range(CATEGORIES)
) + "".join(f"td.heat{n} {{ background: rgba(var(--heat), {n / 25:.2f}); }}\n" for n in range(11))
