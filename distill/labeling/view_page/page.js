// Draws the images that logic.js selects.
const PAGE_SIZE = 24;
// Share of an image at its borders where captions would stick out.
const NEAR = 0.12;
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const gallery = byId("gallery");
let page = 0;

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function readFilter() {
  return {
    threshold: Number(byId("threshold").value),
    class: Number(byId("class").value),
    teacher: Number(byId("teacher").value),
    labels: byId("labels")?.checked ?? false,
    sort: byId("sort").value,
    text: byId("text").value,
  };
}

function count(number, noun) {
  if (number === 1) return `1 ${noun}`;
  return `${number} ${noun === "box" ? "boxes" : noun + "s"}`;
}

function describe(row, isLabel) {
  const name = data.classes[row[CLASS]];
  if (isLabel) return `label: ${name}`;
  // The cross is for a box that finds no label.
  return `${name} ${row[SCORE].toFixed(2)}${row[RIGHT] === 0 ? " ×" : ""}`;
}

function drawRow(row, image, isLabel) {
  const text = describe(row, isLabel);
  const box = element("div", isLabel ? "box label" : "box");
  const [left, top] = [row[X0] / image.width, row[Y0] / image.height];
  box.style.left = `${100 * left}%`;
  box.style.top = `${100 * top}%`;
  box.style.width = `${(100 * (row[X1] - row[X0])) / image.width}%`;
  box.style.height = `${(100 * (row[Y1] - row[Y0])) / image.height}%`;
  // Neighboring classes get hues far apart.
  box.style.setProperty("--hue", Math.round(row[CLASS] * 137.5) % 360);
  const corners = row.slice(0, 4).map((x) => x.toFixed(1)).join(", ");
  const teacher = data.teachers[row[TEACHER]];
  box.title = isLabel ? `${text} (${corners})` : `${text}, ${teacher} (${corners})`;
  const by = data.teachers.length > 1 ? ` ${teacher}` : "";
  const caption = element("span", "caption", isLabel ? data.classes[row[CLASS]] : text + by);
  caption.classList.toggle("inside", isLabel ? 1 - row[Y1] / image.height < NEAR : top < NEAR);
  caption.classList.toggle("end", left > 0.6);
  box.append(caption);
  return box;
}

function placeholder(text) {
  return element("div", "placeholder", text);
}

function picture(item, note) {
  const { image } = item;
  if (image.source === null) return placeholder("This image has no file that can be read.");
  const shown = element("img");
  shown.loading = "lazy";
  shown.decoding = "async";
  const contents = [
    ...item.boxes.map((row) => describe(row, false)),
    ...item.labels.map((row) => describe(row, true)),
  ];
  shown.alt = `${image.name}: ${contents.join(", ") || "no boxes"}`;
  shown.addEventListener("error", () =>
    shown.replaceWith(placeholder("The image can't be shown: it was moved, or is damaged."))
  );
  shown.addEventListener("load", () => {
    const [width, height] = [shown.naturalWidth, shown.naturalHeight];
    shown.classList.toggle("coarse", width < 48 && height < 48);
    if (width !== image.width || height !== image.height) {
      note.textContent = `The image is ${width} × ${height} pixels, not as its boxes expect.`;
    }
  });
  shown.src = image.source;
  return shown;
}

function drawCard(item) {
  const { image } = item;
  const card = element("li", "card");
  const frame = element("div", "frame");
  frame.style.setProperty("--w", Math.max(image.width, 1));
  frame.style.setProperty("--h", Math.max(image.height, 1));
  const note = element("p", "note");
  const area = (row) => (row[X1] - row[X0]) * (row[Y1] - row[Y0]);
  // Small boxes lie on top, where the pointer finds them.
  const rows = [
    ...item.labels.map((row) => [row, true]),
    ...item.boxes.map((row) => [row, false]),
  ].sort((a, b) => area(b[0]) - area(a[0]));
  const boxes = element("div", "boxes");
  // The image's description has them in words.
  boxes.setAttribute("aria-hidden", "true");
  boxes.append(...rows.map(([row, isLabel]) => drawRow(row, image, isLabel)));
  frame.append(picture(item, note), boxes);
  const counts = [`${image.width} × ${image.height}`, count(item.boxes.length, "box")];
  if (item.labels.length) counts.push(count(item.labels.length, "label"));
  if (item.unmatched !== null) counts.push(`${item.unmatched} unmatched`);
  const name = element("p", "name", image.name);
  card.append(frame, name, element("p", "counts", counts.join(" · ")), note);
  return card;
}

function draw() {
  const filter = readFilter();
  const items = selectImages(data.images, filter);
  const current = pageOf(items, page, PAGE_SIZE);
  page = current.page;
  gallery.replaceChildren(...current.items.map(drawCard));
  const boxes = items.reduce((sum, item) => sum + item.boxes.length, 0);
  byId("threshold-value").textContent = filter.threshold.toFixed(2);
  byId("threshold-mark").setAttribute("transform", `translate(${400 * filter.threshold} 0)`);
  const end = current.start + current.items.length;
  const range = items.length ? `${current.start + 1}–${end} of ` : "";
  byId("status").textContent =
    `${range}${count(items.length, "image")}, ` +
    `${count(boxes, "box")} of a score over ${filter.threshold.toFixed(2)}`;
  byId("page").textContent = `${current.page + 1} / ${current.pages}`;
  byId("previous").disabled = current.page === 0;
  byId("next").disabled = current.page === current.pages - 1;
}

function turn(step) {
  const before = page;
  page += step;
  draw();
  if (page !== before) byId("status").scrollIntoView({ block: "start" });
}

byId("controls").addEventListener("input", (event) => {
  if (event.target.id === "size") {
    gallery.style.setProperty("--size", `${event.target.value}px`);
  } else if (event.target.id === "captions") {
    gallery.classList.toggle("bare", !event.target.checked);
  } else {
    page = 0;
    draw();
  }
});
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("previous").addEventListener("click", () => turn(-1));
byId("next").addEventListener("click", () => turn(1));
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest?.("input, select")) return;
  if (event.key === "ArrowLeft") turn(-1);
  if (event.key === "ArrowRight") turn(1);
});
// Browsers fill forms in again on reload; the page starts as it was written.
byId("controls").reset();
draw();
