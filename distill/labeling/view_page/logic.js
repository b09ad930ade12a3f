// What the page shows under which filter. No DOM in here: rows of numbers in, rows out.
"use strict";

// Places in a box' or label's row. A box is right (1), wrong (0) or not to judge (null).
const [X0, Y0, X1, Y1, SCORE, CLASS, TEACHER, RIGHT] = [0, 1, 2, 3, 4, 5, 6, 7];

/** Boxes of an image above the threshold; class and teacher are places, or -1 for all. */
function visibleBoxes(image, filter) {
  return image.boxes.filter(
    (box) =>
      box[SCORE] > filter.threshold &&
      (filter.class < 0 || box[CLASS] === filter.class) &&
      (filter.teacher < 0 || box[TEACHER] === filter.teacher)
  );
}

/** Labels of an image; none where it is not known what there is. */
function labelsOf(image, filter) {
  return (image.labels ?? []).filter((row) => filter.class < 0 || row[CLASS] === filter.class);
}

/**
 * Wrong boxes and labels without a box; null where the labels are not known. A label is taken by
 * the best of its boxes, so that raising the threshold takes no label from a box that stays.
 */
function countUnmatched(image, boxes, labels) {
  if (image.labels === null) return null;
  const count = (value) => boxes.filter((box) => box[RIGHT] === value).length;
  return labels.length - count(1) + count(0);
}

/** What is visible of an image. */
function visible(image, filter) {
  const boxes = visibleBoxes(image, filter);
  const labels = labelsOf(image, filter);
  const unmatched = countUnmatched(image, boxes, labels);
  return { image, boxes, labels: filter.labels ? labels : [], unmatched };
}

function lowestScore(item) {
  return item.boxes.reduce((lowest, box) => Math.min(lowest, box[SCORE]), Infinity);
}

// Smaller keys come first; equal ones stay in the order of the file.
const SORT_KEYS = {
  file: () => 0,
  boxes: (item) => -item.boxes.length,
  score: lowestScore,
  unmatched: (item) => -(item.unmatched ?? -1),
};

/** The images that a filter leaves, with what is visible of them, in its order. */
function selectImages(images, filter) {
  const text = filter.text.toLowerCase();
  const narrow = filter.class >= 0 || filter.teacher >= 0;
  const key = SORT_KEYS[filter.sort];
  return images
    .filter((image) => image.name.toLowerCase().includes(text))
    .map((image) => visible(image, filter))
    .filter((item) => !narrow || item.boxes.length || item.labels.length)
    .map((item) => ({ ...item, key: key(item) }))
    .sort((a, b) => (a.key === b.key ? 0 : a.key - b.key));
}

/** One page of a list; its number is moved to the nearest page that there is. */
function pageOf(items, number, size) {
  const pages = Math.max(1, Math.ceil(items.length / size));
  const page = Math.min(Math.max(number, 0), pages - 1);
  const start = page * size;
  return { page, pages, start, items: items.slice(start, start + size) };
}
