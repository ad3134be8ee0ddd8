/** Where the nodes and edges of one view are, in pixels at zoom 1, and what lies between two heights. */
class Layout {
  static BAND = 1600;

  constructor({ nodes: shown, x, y, edges }, [width, height]) {
    Object.assign(this, { shown, x, y, edges, width, height });
    this.place = new Map(shown.map((node, position) => [node, position]));
    this.left = Math.min(...this.extremes(x, Math.min)) - width / 2;
    this.right = Math.max(...this.extremes(x, Math.max)) + width / 2;
    this.top = -height / 2;
    this.bottom = (y.length ? y[y.length - 1] : 0) + height / 2;
    this.stamp = new Uint32Array(edges.length);
    this.round = 0;
    this.bands = this.sorted();
  }

  /** The extreme of many numbers, as a list of one or none; the arguments of a call are limited. */
  extremes(numbers, choose) {
    return [numbers.length ? numbers.reduce((a, b) => choose(a, b)) : 0];
  }

  sorted() {
    const bands = new Map();
    this.edges.forEach(([from, to], index) => {
      const last = this.band(this.yOf(to));
      for (let band = this.band(this.yOf(from)); band <= last; band++) {
        if (!bands.has(band)) bands.set(band, []);
        bands.get(band).push(index);
      }
    });
    return bands;
  }

  band(y) { return Math.floor(y / Layout.BAND); }
  has(node) { return this.place.has(node); }
  xOf(node) { return this.x[this.place.get(node)]; }
  yOf(node) { return this.y[this.place.get(node)]; }

  /** Position of the first node that is not above a height; nodes are in the order of their layers. */
  firstAt(y) {
    let low = 0, high = this.y.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.y[middle] < y) low = middle + 1; else high = middle;
    }
    return low;
  }

  /** Calls back with the position of every node in a rectangle. */
  eachNode({ left, right, top, bottom }, call) {
    const end = this.firstAt(bottom + this.height / 2);
    for (let i = this.firstAt(top - this.height / 2); i < end; i++) {
      if (this.x[i] + this.width / 2 > left && this.x[i] - this.width / 2 < right) call(i);
    }
  }

  /** Calls back once with every edge that may cross a rectangle. */
  eachEdge({ left, right, top, bottom }, call) {
    this.round++;
    for (let band = this.band(top); band <= this.band(bottom); band++) {
      for (const index of this.bands.get(band) ?? []) {
        if (this.stamp[index] === this.round) continue;
        this.stamp[index] = this.round;
        const [from, to, , route] = this.edges[index];
        const a = this.xOf(from), b = this.xOf(to), c = route ?? a;
        if (Math.max(a, b, c) > left && Math.min(a, b, c) < right &&
            this.yOf(to) > top && this.yOf(from) < bottom) call(this.edges[index]);
      }
    }
  }

  nodeAt(x, y) {
    let found = null;
    this.eachNode({ left: x, right: x, top: y, bottom: y }, (position) => { found = this.shown[position]; });
    return found;
  }

  /** Adds an edge to a path: straight lines, or bent between the layers. */
  trace(path, [from, to, , route], straight) {
    const gap = 36, half = this.height / 2;
    const a = this.xOf(from), top = this.yOf(from) + half, b = this.xOf(to), bottom = this.yOf(to) - half;
    path.moveTo(a, top);
    if (route !== null && straight) {
      path.lineTo(route, top + gap);
      path.lineTo(route, bottom - gap);
      path.lineTo(b, bottom);
    } else if (route !== null) {
      path.bezierCurveTo(a, top + gap * .7, route, top + gap * .3, route, top + gap);
      path.lineTo(route, bottom - gap);
      path.bezierCurveTo(route, bottom - gap * .3, b, bottom - gap * .7, b, bottom);
    } else if (straight || a === b) {
      path.lineTo(b, bottom);
    } else {
      const bend = Math.min(60, (bottom - top) * .6);
      path.bezierCurveTo(a, top + bend, b, bottom - bend, b, bottom);
    }
  }
}
