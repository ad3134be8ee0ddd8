/** Draws a layout on a canvas, as much of it as is in sight and in as much detail as can be read. */
class Scene {
  static LEAST = .004;
  static MOST = 3;
  static MAP = 90;
  static FONT = "system-ui, sans-serif";

  constructor(canvas, colours, onMove) {
    Object.assign(this, { canvas, colours, onMove, layout: null, chosen: null, lit: null, litEdges: null });
    this.context = canvas.getContext("2d", { alpha: false });
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.waiting = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.max(1, Math.round(this.width * ratio));
    this.canvas.height = Math.max(1, Math.round(this.height * ratio));
    this.ratio = ratio;
    this.draw();
  }

  // -- where we look ------------------------------------------------------------

  /** The rectangle of the graph that is in sight. */
  sight() {
    return { left: this.x, top: this.y, right: this.x + this.width / this.scale, bottom: this.y + this.height / this.scale };
  }

  pan(dx, dy) {
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
    this.keepInside();
    this.refresh();
  }

  /** Some of the graph stays in sight. */
  keepInside() {
    if (this.layout === null) return;
    const { left, right, top, bottom } = this.layout;
    const wide = this.width / this.scale, high = this.height / this.scale;
    this.x = Math.min(Math.max(this.x, left - wide * .9), right - wide * .1);
    this.y = Math.min(Math.max(this.y, top - high * .9), bottom - high * .1);
  }

  zoom(factor, screenX = this.width / 2, screenY = this.height / 2) {
    const scale = Math.min(Scene.MOST, Math.max(Scene.LEAST, this.scale * factor));
    this.x += screenX / this.scale - screenX / scale;
    this.y += screenY / this.scale - screenY / scale;
    this.scale = scale;
    this.keepInside();
    this.refresh();
  }

  look(x, y, scale = this.scale) {
    this.scale = Math.min(Scene.MOST, Math.max(Scene.LEAST, scale));
    this.x = x - (this.width - Scene.MAP) / this.scale / 2;
    this.y = y - this.height / this.scale / 2;
    this.refresh();
  }

  fit() {
    const { left, right, top, bottom } = this.layout;
    const room = Math.min((this.width - 120) / (right - left), (this.height - 40) / (bottom - top));
    this.look((left + right) / 2, (top + bottom) / 2, Math.min(1, room));
  }

  /** The first node at a size that can be read. */
  begin() {
    const { left, right, top, bottom } = this.layout;
    const whole = Math.min((this.width - 120) / (right - left), (this.height - 40) / (bottom - top));
    if (whole > .6) return this.fit();
    this.look(this.layout.x[0] ?? 0, 0, .8);
    this.y = top - 30 / this.scale;
    return this.refresh();
  }

  /** Brings a node into the middle, readable, where it is not in sight already. */
  reveal(node) {
    if (!this.layout.has(node)) return;
    const x = this.layout.xOf(node), y = this.layout.yOf(node), sight = this.sight();
    const inside = x > sight.left && x < sight.right && y > sight.top && y < sight.bottom;
    if (!inside || this.scale < .5) this.look(x, y, Math.max(this.scale, .8));
  }

  toGraph(screenX, screenY) { return [this.x + screenX / this.scale, this.y + screenY / this.scale]; }

  // -- drawing ------------------------------------------------------------

  refresh() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const { context, colours } = this;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.fillStyle = colours.ground;
    context.fillRect(0, 0, this.width, this.height);
    if (this.layout === null) return;
    const zoom = this.scale * this.ratio;
    context.setTransform(zoom, 0, 0, zoom, -this.x * zoom, -this.y * zoom);
    const sight = this.sight();
    this.drawEdges(sight);
    if (this.scale < .3) this.drawMarks(sight); else this.drawBoxes(sight);
    this.onMove();
  }

  drawEdges(sight) {
    const { context, layout } = this, plain = [], marked = [];
    layout.eachEdge(sight, (edge) => (this.litEdges?.(edge) ? marked : plain).push(edge));
    const faded = this.lit !== null;
    this.stroke(plain, this.colours.edge, faded ? .35 : 1, Math.max(1.2, .7 / this.scale));
    this.stroke(marked, this.colours.mark, 1, Math.max(2.4, 1.6 / this.scale));
    context.globalAlpha = 1;
  }

  /** Strokes edges, some hundred at a time: one path of all is slow where many cross. */
  stroke(edges, colour, alpha, width) {
    const { context } = this, straight = this.scale < .3;
    Object.assign(context, { strokeStyle: colour, globalAlpha: alpha, lineWidth: width });
    for (let start = 0; start < edges.length; start += 300) {
      context.beginPath();
      for (const edge of edges.slice(start, start + 300)) this.layout.trace(context, edge, straight);
      context.stroke();
    }
  }

  /** From afar a node is a rectangle, never so small that it vanishes. */
  drawMarks(sight) {
    const { context, layout } = this, byColour = new Map();
    layout.eachNode(sight, (position) => {
      const node = nodes[layout.shown[position]];
      const key = this.isFaded(node) ? this.colours.line : this.colours.of(node)[1];
      if (!byColour.has(key)) byColour.set(key, []);
      byColour.get(key).push(position);
    });
    const width = Math.max(layout.width, 3 / this.scale), height = Math.max(layout.height, 1.5 / this.scale);
    const faded = byColour.get(this.colours.line) ?? [];
    byColour.delete(this.colours.line);
    for (const [colour, positions] of [[this.colours.line, faded], ...byColour]) {
      context.fillStyle = colour;
      for (const i of positions) context.fillRect(layout.x[i] - width / 2, layout.y[i] - height / 2, width, height);
    }
    this.drawChosen(6 / this.scale);
  }

  drawChosen(margin) {
    const { context, layout } = this;
    if (this.chosen === null || !layout.has(this.chosen)) return;
    Object.assign(context, { strokeStyle: this.colours.mark, lineWidth: margin / 2 });
    context.strokeRect(layout.xOf(this.chosen) - layout.width / 2 - margin, layout.yOf(this.chosen) - layout.height / 2 - margin,
      layout.width + 2 * margin, layout.height + 2 * margin);
  }

  isFaded(node) { return this.lit !== null && !this.lit.has(node.index); }

  drawBoxes(sight) {
    const { context, layout } = this;
    Object.assign(context, { textAlign: "center", textBaseline: "middle" });
    layout.eachNode(sight, (position) => this.drawBox(nodes[layout.shown[position]], layout.x[position], layout.y[position]));
    context.globalAlpha = 1;
  }

  drawBox(node, x, y) {
    const { context, colours } = this, { width, height } = this.layout;
    const [fill, line] = colours.of(node), chosen = node.index === this.chosen;
    context.globalAlpha = this.isFaded(node) ? .3 : 1;
    context.beginPath();
    context.roundRect(x - width / 2, y - height / 2, width, height, node.op.startsWith("graph ") ? height / 2 : 6);
    Object.assign(context, { fillStyle: fill, strokeStyle: chosen ? colours.mark : line, lineWidth: chosen ? 4 : 1.5 });
    context.fill();
    context.stroke();
    context.fillStyle = colours.ink;
    const named = this.scale >= .6;
    context.font = `600 ${named ? 14 : 20}px ${Scene.FONT}`;
    context.fillText(shortened(node.op, named ? 20 : 13, true), x, named ? y - 8 : y);
    if (!named) return;
    context.font = `13px ${Scene.FONT}`;
    context.fillText(shortened(node.label, 22), x, y + 10);
    if (this.scale >= .8) this.drawShape(node, x, y + height / 2 + 12);
  }

  /** The type of the first output, right of the edge that leaves the node. */
  drawShape(node, x, y) {
    const { context } = this;
    if (!node.outputs.length) return;
    Object.assign(context, { fillStyle: this.colours.faint, textAlign: "left", font: `12px ${Scene.FONT}` });
    const text = shortened(DATA.types[node.outputs[0][1]], 24, true);
    Object.assign(context, { strokeStyle: this.colours.ground, lineWidth: 4, lineJoin: "round" });
    context.strokeText(text, x + 6, y);
    context.fillText(text, x + 6, y);
    context.textAlign = "center";
  }
}

/** A text of at most so many characters; of names the end tells most, of ops and types the beginning. */
function shortened(text, most, front = false) {
  if (text.length <= most) return text;
  return front ? `${text.slice(0, most - 1)}…` : `…${text.slice(1 - most)}`;
}
