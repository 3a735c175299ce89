"use strict";

// Numbers under the pointer: a chart tells its axes as "low high start end log", its curves are paths of "M x y L x y".
const axis = (text) => {
  const [low, high, start, end, log] = text.split(" ").map(Number);
  return (at) => {
    const share = (at - start) / (end - start);
    return log ? low * (high / low) ** share : low + share * (high - low);
  };
};
const short = (value) => Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
const points = (path) => path.getAttribute("d").split(/[ML]/).slice(1).map((pair) => pair.split(" ").map(parseFloat));

for (const chart of document.querySelectorAll("svg.chart[data-x]")) {
  const curves = [...chart.querySelectorAll("path.curve[data-label]")];
  const readout = chart.parentElement.querySelector(".readout");
  if (!curves.length || !readout) continue;
  const [x, y] = [axis(chart.dataset.x), axis(chart.dataset.y)];
  const before = [...readout.childNodes];
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  line.setAttribute("class", "cursor");
  const [bottom, top] = chart.dataset.y.split(" ").slice(2, 4);
  line.setAttribute("y1", bottom);
  line.setAttribute("y2", top);
  let known = null;
  chart.addEventListener("pointermove", (event) => {
    known ??= curves.map(points);
    const box = chart.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    const nearest = known.map((all) => all.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a)));
    const place = nearest.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a))[0];
    line.setAttribute("x1", place);
    line.setAttribute("x2", place);
    chart.append(line);
    const told = nearest.map((point, i) => {
      const span = document.createElement("span");
      span.className = curves[i].getAttribute("class").replace("curve ", "");
      span.textContent = short(y(point[1]));
      return span;
    });
    readout.replaceChildren(`${short(x(place))}:`, ...told);
  });
  chart.addEventListener("pointerleave", () => {
    line.remove();
    readout.replaceChildren(...before);
  });
}

// Pictures, closely: as large as the window, then larger by factors of two.
const dialog = document.createElement("dialog");
const stage = Object.assign(document.createElement("div"), { className: "stage" });
const bar = Object.assign(document.createElement("div"), { className: "bar" });
const large = document.createElement("img");
let width = 0;
const resize = (factor) => {
  width = Math.min(Math.max(width * factor, 64), 8192);
  large.style.width = `${width}px`;
};
const press = (text, title, act) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text, title });
  button.addEventListener("click", act);
  bar.append(button);
};
press("\u2212", "smaller", () => resize(0.5));
press("+", "larger", () => resize(2));
press("\u00d7", "close", () => dialog.close());
large.addEventListener("click", () => resize(2));
stage.addEventListener("click", (event) => event.target === stage && dialog.close());
stage.append(large);
dialog.append(stage, bar);
document.body.append(dialog);
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const small = button.querySelector("img");
    Object.assign(large, { src: small.src, alt: small.alt, className: small.className });
    const share = Math.min(innerWidth / small.naturalWidth, (innerHeight - 60) / small.naturalHeight);
    width = small.naturalWidth * share;
    resize(1);
    dialog.showModal();
  });
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // a page from a file may not write there: select it instead
      button.textContent = "Selected";
    }
  });
}
