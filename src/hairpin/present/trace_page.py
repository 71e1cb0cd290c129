"""The frame of a Trace's page: its HTML, style and script, as they stand."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--fg:#1c2128;--bg:#fff;--dim:#59636e;--line:#d1d9e0;--card:#f6f8fa;
--req:#0969da;--rep:#1a7f37;--bad:#d1242f;--warn:#9a6700}
@media(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--dim:#9198a1;--line:#3d444d;
--card:#151b23;--req:#4493f8;--rep:#3fb950;--bad:#f85149;--warn:#d29922}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:72em;
margin:0 auto;padding:1.2em}
h1{margin:0 0 .3em;font-size:1.5em}h2{margin:1.2em 0 .3em;font-size:1.2em}
h3{margin:.6em 0 .1em;font-size:1em}h3 small{font:12.5px ui-monospace,monospace}
p{margin:.35em 0}small,.by{color:var(--dim);font-weight:400}
.good b{color:var(--rep)}.bad>b,.bad b{color:var(--bad)}.verdict.bad p+p+p b{color:var(--fg)}
.verdict{border-left:4px solid var(--rep);padding:.1em 0 .1em .9em}
.verdict.bad{border-color:var(--bad)}
kbd,code{font:13px ui-monospace,monospace;background:var(--card);border:1px solid var(--line);
border-radius:5px;padding:.1em .4em;overflow-wrap:anywhere}
ol{list-style:none;margin:0;padding:0}section>ol{padding-left:.4em;border-left:3px solid var(--req)}
.reply>ol{border-color:var(--rep)}.error>ol,.data>ol{border-color:var(--bad)}
section>ol>li{padding-left:.7em;scroll-margin-top:21em}
.step{padding:.1em .5em;border-radius:5px;cursor:pointer;scroll-margin:21em 0 4em}
.step:is(.ipvs,.nat,.drop,.reject) .says{font-weight:600}
.step:is(.drop,.reject) .says{color:var(--bad)}
.step:focus-visible,.step.now{outline:2px solid var(--req);background:var(--card)}
.by{font-size:13px;overflow-wrap:anywhere}
.ends{font:13px ui-monospace,monospace}del{color:var(--bad);text-decoration:none}
ins{color:var(--rep);text-decoration:none}
.badge{display:inline-block;min-width:1.5em;text-align:center;border-radius:1em;color:var(--bg);
background:var(--warn);font-size:12px;font-weight:600;line-height:1.5}
#stage{position:sticky;top:0;background:var(--bg);padding:.5em 0;z-index:1;
border-bottom:1px solid var(--line)}
@media(max-height:700px){#stage{position:static}}
.map{overflow-x:auto}.map svg{display:block;max-width:none;height:auto}
@media(min-width:900px){.map svg{max-width:100%}}
#bar{display:flex;gap:.5em;align-items:center;min-height:2.2em}#bar[hidden]{display:none}
#bar button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:0 .7em;cursor:pointer}
#bar output{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
text{fill:var(--fg);text-anchor:middle;font:600 13px system-ui,sans-serif}
.role{fill:var(--dim);font-size:11px;font-weight:400;text-anchor:start}
.device{font:12px ui-monospace,monospace;fill:var(--dim)}.after{text-anchor:start}
.before{text-anchor:end}
.box{fill:var(--card);stroke:var(--line);stroke-width:1.5}.box.node{stroke:var(--warn)}
.box.pod{stroke:var(--req)}.kernel{fill:var(--bg);stroke:var(--line)}
.link{fill:var(--bg);stroke:var(--dim)}.wire{fill:none;stroke:var(--line);stroke-width:9;
stroke-linejoin:round}
.way{fill:none;stroke-width:2.2;stroke:var(--req);stroke-linejoin:round;opacity:.85}
.way.reply{stroke:var(--rep)}.way.error,.way.data{stroke:var(--bad)}
.tip,.start{fill:var(--req)}.reply .start,.tip.reply{fill:var(--rep)}
.tip.error,.tip.data,:is(.error,.data) .start{fill:var(--bad)}
.spot{fill:var(--req)}.reply .spot{fill:var(--rep)}:is(.error,.data) .spot{fill:var(--bad)}
.leg .spot.numbered{fill:var(--warn)}.number{fill:var(--bg);font-size:11.5px}
.end{stroke:var(--bad);stroke-width:4}#at{fill:none;stroke:var(--fg);stroke-width:3}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}
td,th{border:1px solid var(--line);padding:.2em .6em;text-align:left}
"""

SCRIPT = """
(()=>{const steps=[...document.querySelectorAll('.step')],mark=document.getElementById('at'),
bar=document.getElementById('bar'),out=bar.querySelector('output');let at=-1;
const show=n=>{if(n<0||n>=steps.length)return;at=n;const s=steps[n];
document.querySelectorAll('.now').forEach(e=>{e.classList.remove('now');
e.removeAttribute('aria-current')});
s.classList.add('now');s.setAttribute('aria-current','step');s.focus({preventScroll:true});
s.scrollIntoView({block:'nearest'});out.textContent=s.dataset.ends;
const spot=document.querySelector('svg a[data-step="'+s.dataset.step+'"]');
if(!spot||!mark)return;mark.setAttribute('cx',spot.dataset.x);mark.setAttribute('cy',spot.dataset.y);
mark.setAttribute('r',spot.querySelector('.numbered')?13:9);
const map=document.querySelector('.map'),box=mark.getBoundingClientRect(),
view=map.getBoundingClientRect();
map.scrollLeft+=box.left+box.width/2-view.left-view.width/2};
steps.forEach((s,n)=>s.addEventListener('click',()=>show(n)));
document.querySelectorAll('svg a').forEach(a=>a.addEventListener('click',e=>{e.preventDefault();
show(steps.findIndex(s=>s.dataset.step===a.dataset.step))}));
bar.querySelectorAll('button').forEach((b,n)=>b.addEventListener('click',()=>show(at+(n?1:-1))));
addEventListener('keydown',e=>{if(e.ctrlKey||e.metaKey||e.altKey)return;
if(['ArrowDown','ArrowRight','j','n'].includes(e.key)){show(at+1)}
else if(['ArrowUp','ArrowLeft','k','p'].includes(e.key)){show(at-1)}else if(e.key==='Home'){show(0)}
else if(e.key==='End'){show(steps.length-1)}
else if(e.key==='Enter'&&steps.includes(document.activeElement)){
show(steps.indexOf(document.activeElement))}else return;e.preventDefault()});
if(steps.length)bar.hidden=false;
if(/^#step=/.test(location.hash))show(+location.hash.slice(6)-1)})();
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><h1>{heading}</h1>{verdict}<div id="stage">{drawing}
<div id="bar" hidden><button type="button" title="arrow left, k">‹</button>
<button type="button" title="arrow right, j">›</button><output aria-live="polite">arrow keys, or a
click, go from step to step</output></div></div>
{legs}{tracked}{notes}
<script>{script}</script></body></html>
"""
