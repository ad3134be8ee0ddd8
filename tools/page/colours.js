/** What colour a node has, by group, by zeros or by op. */
class Colours {
  constructor() {
    const counts = new Map();
    for (const node of nodes) counts.set(node.op, (counts.get(node.op) ?? 0) + 1);
    this.ops = [...counts].sort((a, b) => b[1] - a[1]);
    this.hues = new Map(this.ops.map(([op], rank) => [op, Colours.hue(rank)]));
    this.mode = "group";
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.read();
  }

  static hue(rank) { return Math.round((205 + rank * 137.508) % 360); }

  read() {
    const style = getComputedStyle(document.documentElement);
    this.dark = this.scheme.matches;
    for (const name of ["ground", "paper", "ink", "faint", "line", "edge", "mark", "warn", "plain"]) {
      this[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.cache = new Map();
  }

  use(mode) {
    this.mode = mode;
    this.cache.clear();
  }

  /** Two colours of a node: of its box, and of the mark that stands for it from afar. */
  of(node) {
    if (!this.cache.has(node.index)) this.cache.set(node.index, this.find(node));
    return this.cache.get(node.index);
  }

  find(node) {
    if (this.mode === "op") return this.tint(this.hues.get(node.op));
    if (this.mode === "sparsity") return node.zeros === null ? this.neutral() : this.heat(node.zeros);
    const free = node.groups.find((group) => groups[group].frozen === null);
    if (free !== undefined) return this.ofGroup(groups[free]);
    return node.groups.length ? this.frozen() : this.neutral();
  }

  ofGroup(group) { return group.frozen === null ? this.tint(Colours.hue(group.index)) : this.frozen(); }

  tint(hue) {
    return this.dark ? [`hsl(${hue} 38% 27%)`, `hsl(${hue} 50% 55%)`] : [`hsl(${hue} 70% 90%)`, `hsl(${hue} 55% 55%)`];
  }

  heat(share) {
    const hue = 210 - 180 * share;
    return this.dark
      ? [`hsl(${hue} ${25 + 45 * share}% ${24 + 8 * share}%)`, `hsl(${hue} 70% 55%)`]
      : [`hsl(${hue} 80% ${92 - 14 * share}%)`, `hsl(${hue} 70% 50%)`];
  }

  frozen() { return this.dark ? ["#3a3533", "#9b8f86"] : ["#e9e4df", "#a2968c"]; }
  neutral() { return [this.plain, this.edge]; }

  /** What the colours mean, as pairs of a colour and a text. */
  legend() {
    if (this.mode === "op") return this.ops.slice(0, 12).map(([op, n]) => [this.tint(this.hues.get(op))[1], `${op} ${count(n)}`]);
    if (this.mode === "sparsity") {
      return [...[0, .25, .5, .75, 1].map((share) => [this.heat(share)[1], `${100 * share} % zeros`]), [this.neutral()[1], "no weights"]];
    }
    const free = groups.filter((group) => group.frozen === null);
    const shown = free.slice(0, 8).map((group) => [this.ofGroup(group)[1], `${group.id}: ${count(group.units)}`]);
    const more = free.length > 8 ? [[null, `and ${free.length - 8} more groups`]] : [];
    return [...shown, ...more, [this.frozen()[1], "pinned"], [this.neutral()[1], "in no group"]];
  }
}
