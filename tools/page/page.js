/** Puts the parts together: what is selected, what is lit, and the keys. */
class Page {
  constructor() {
    this.layouts = DATA.views.map((view) => new Layout(view, DATA.box));
    this.colours = new Colours();
    this.canvas = document.getElementById("canvas");
    this.map = document.getElementById("map");
    const choose = {
      node: (index) => this.chooseNode(index),
      group: (group) => this.chooseGroup(group),
      colour: (group) => this.colours.ofGroup(group)[1],
    };
    this.panel = new Panel(choose);
    this.search = new Search(choose);
    this.scene = new Scene(this.canvas, this.colours, () => this.drawMap());
    this.pointer = new Pointer(this.scene, (node) => node === null ? this.clear() : this.chooseNode(node));
    document.getElementById("title").textContent = DATA.model[0][1];
    document.title = `${DATA.model[0][1]} - prunec inspect`;
    this.panel.fillTables();
    this.bind();
    this.useLayout(0);
    this.clear();
    this.showLegend();
  }

  bind() {
    const on = (id, event, call) => document.getElementById(id).addEventListener(event, call);
    on("in", "click", () => this.scene.zoom(1.4));
    on("out", "click", () => this.scene.zoom(1 / 1.4));
    on("fit", "click", () => this.scene.fit());
    on("top", "click", () => this.scene.begin());
    on("all", "change", (event) => this.useLayout(event.target.checked ? 1 : 0));
    on("colour", "change", (event) => this.recolour(event.target.value));
    this.colours.scheme.addEventListener("change", () => { this.colours.read(); this.recolour(this.colours.mode); });
    this.map.addEventListener("pointerdown", (event) => { this.map.setPointerCapture(event.pointerId); this.jump(event); });
    this.map.addEventListener("pointermove", (event) => { if (event.buttons) this.jump(event); });
    new ResizeObserver(() => { this.mapImage = null; this.drawMap(); }).observe(this.map);
    document.addEventListener("keydown", (event) => this.key(event));
  }

  useLayout(number) {
    const middle = this.scene.layout === null ? null : this.scene.chosen;
    this.scene.layout = this.layouts[number];
    document.getElementById("all").checked = number === 1;
    this.mapImage = null;
    if (middle !== null && this.scene.layout.has(middle)) this.scene.reveal(middle); else this.scene.begin();
    this.scene.refresh();
  }

  recolour(mode) {
    this.colours.use(mode);
    this.mapImage = null;
    this.showLegend();
    this.scene.refresh();
  }

  showLegend() {
    document.getElementById("legend").replaceChildren(...this.colours.legend().map(([colour, text]) => {
      const entry = element("span"), swatch = element("i", "", "swatch");
      if (colour !== null) { swatch.style.backgroundColor = colour; entry.append(swatch); }
      entry.append(text);
      return entry;
    }));
  }

  // -- what is selected ------------------------------------------------------------

  clear() {
    Object.assign(this.scene, { chosen: null, lit: null, litEdges: null });
    this.panel.showModel();
    this.say("");
    this.scene.refresh();
  }

  chooseNode(index) {
    const node = nodes[index];
    if (!this.scene.layout.has(index)) this.useLayout(1);
    Object.assign(this.scene, { chosen: index, lit: null, litEdges: ([from, to]) => from === index || to === index });
    this.panel.showNode(node);
    this.scene.reveal(index);
    this.say(`${node.op} ${node.name}`);
    this.scene.refresh();
  }

  chooseGroup(group) {
    const { owners, all } = nodesOf(group);
    const carried = new Set(values.filter((value) => value.groups.includes(group.index)).map((value) => value.index));
    Object.assign(this.scene, { chosen: null, lit: all, litEdges: ([, , value]) => carried.has(value) });
    this.panel.showGroup(group);
    const sight = this.scene.sight(), { layout } = this.scene;
    const inSight = (node) => layout.xOf(node) > sight.left && layout.xOf(node) < sight.right &&
      layout.yOf(node) > sight.top && layout.yOf(node) < sight.bottom;
    const shown = [...(owners.size ? owners : all)].filter((node) => layout.has(node)).sort((a, b) => layout.yOf(a) - layout.yOf(b));
    if (shown.length && !shown.some(inSight)) this.scene.reveal(shown[0]);
    this.say(`group ${group.id}, ${owners.size} nodes`);
    this.scene.refresh();
  }

  say(text) { document.getElementById("status").textContent = text; }

  // -- keys ------------------------------------------------------------

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); this.search.input.focus(); this.search.input.select(); return; }
    if (event.key === "Escape") { this.clear(); return; }
    if (event.target !== this.canvas && event.target !== document.body) return;
    const arrow = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const acts = { "+": () => this.scene.zoom(1.25), "=": () => this.scene.zoom(1.25), "-": () => this.scene.zoom(.8),
      "_": () => this.scene.zoom(.8), "0": () => this.scene.fit(), Home: () => this.scene.begin(),
      PageDown: () => this.scene.pan(0, -.8 * this.scene.height), PageUp: () => this.scene.pan(0, .8 * this.scene.height) };
    const act = arrow ? () => (event.shiftKey ? this.walk(arrow) : this.scene.pan(80 * arrow[0], 80 * arrow[1])) : acts[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  }

  /** From the selected node to one that it reads, one that reads it, or one beside it. */
  walk([dx, dy]) {
    const { layout, chosen } = this.scene;
    if (chosen === null || !layout.has(chosen)) {
      if (layout.shown.length) this.chooseNode(layout.shown[0]);
      return;
    }
    const x = layout.xOf(chosen), y = layout.yOf(chosen);
    const near = dy ? layout.edges.filter((edge) => edge[dy > 0 ? 1 : 0] === chosen).map((edge) => edge[dy > 0 ? 0 : 1])
      : layout.shown.filter((node) => layout.yOf(node) === y && (layout.xOf(node) - x) * dx < 0);
    const distance = (node) => Math.hypot(layout.xOf(node) - x, layout.yOf(node) - y);
    if (near.length) this.chooseNode(near.reduce((a, b) => distance(a) <= distance(b) ? a : b));
  }

  // -- the map ------------------------------------------------------------

  /** The whole graph, each axis stretched to fit, with the part in sight. */
  drawMap() {
    const { layout } = this.scene, ratio = devicePixelRatio || 1;
    if (layout === null || !this.map.clientHeight) return;
    this.mapImage ??= this.paintMap(layout, ratio);
    const context = this.map.getContext("2d"), sight = this.scene.sight();
    this.map.width = this.mapImage.width;
    this.map.height = this.mapImage.height;
    context.drawImage(this.mapImage, 0, 0);
    const [across, down] = this.mapScale(layout, ratio);
    const within = (at, most) => Math.min(Math.max(at, ratio), most - ratio);
    const left = within((sight.left - layout.left) * across, this.map.width), top = within((sight.top - layout.top) * down, this.map.height);
    const right = within((sight.right - layout.left) * across, this.map.width), bottom = within((sight.bottom - layout.top) * down, this.map.height);
    Object.assign(context, { strokeStyle: this.colours.ink, lineWidth: 2 * ratio });
    context.strokeRect(left, top, right - left, Math.max(2 * ratio, bottom - top));
  }

  mapScale(layout, ratio) {
    return [this.map.clientWidth * ratio / (layout.right - layout.left), this.map.clientHeight * ratio / (layout.bottom - layout.top)];
  }

  paintMap(layout, ratio) {
    const image = document.createElement("canvas"), context = image.getContext("2d");
    image.width = Math.round(this.map.clientWidth * ratio);
    image.height = Math.round(this.map.clientHeight * ratio);
    const [across, down] = this.mapScale(layout, ratio);
    layout.shown.forEach((node, i) => {
      context.fillStyle = this.colours.of(nodes[node])[1];
      context.fillRect((layout.x[i] - layout.width / 2 - layout.left) * across, (layout.y[i] - layout.height / 2 - layout.top) * down,
        Math.max(2, layout.width * across), Math.max(1, layout.height * down));
    });
    return image;
  }

  jump(event) {
    const { layout } = this.scene;
    const [across, down] = this.mapScale(layout, 1);
    this.scene.look(layout.left + event.offsetX / across, layout.top + event.offsetY / down);
  }
}

const page = new Page();
