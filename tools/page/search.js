/** Search by the names of nodes, tensors and groups: what begins with the text first, then what holds it. */
class Search {
  static MOST = 60;

  constructor(choose) {
    this.choose = choose;
    this.input = document.getElementById("search");
    this.list = document.getElementById("found");
    this.entries = this.collect();
    this.found = [];
    this.at = -1;
    this.input.addEventListener("input", () => this.update());
    this.input.addEventListener("focus", () => this.update());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => this.close());
    this.list.addEventListener("pointerdown", (event) => event.preventDefault());
  }

  collect() {
    const entries = groups.map((group) => ({ kind: "group", text: group.id, act: () => this.choose.group(group) }));
    for (const node of nodes) entries.push({ kind: node.op, text: node.name, act: () => this.choose.node(node.index) });
    for (const value of values) {
      const near = value.maker ?? value.readers[0];
      if (near) entries.push({ kind: "tensor", text: value.name, act: () => this.choose.node(near.index) });
    }
    for (const entry of entries) entry.key = entry.text.toLowerCase();
    return entries;
  }

  update() {
    const text = this.input.value.trim().toLowerCase();
    const starts = [], holds = [];
    if (text) {
      for (const entry of this.entries) {
        if (entry.key.startsWith(text)) starts.push(entry);
        else if (entry.key.includes(text) || entry.kind.toLowerCase().startsWith(text)) holds.push(entry);
        if (starts.length >= Search.MOST) break;
      }
    }
    this.found = [...starts, ...holds].slice(0, Search.MOST);
    this.at = this.found.length ? 0 : -1;
    this.show(text !== "");
  }

  show(open) {
    const lines = this.found.map((entry, position) => {
      const line = element("li");
      line.id = `found-${position}`;
      line.setAttribute("role", "option");
      line.setAttribute("aria-selected", String(position === this.at));
      line.append(element("small", entry.kind), entry.text);
      line.addEventListener("click", () => this.take(entry));
      return line;
    });
    if (open && !lines.length) lines.push(element("li", "nothing has this in its name"));
    this.list.replaceChildren(...lines);
    this.list.hidden = !open;
    this.input.setAttribute("aria-expanded", String(open));
    if (this.at >= 0) this.input.setAttribute("aria-activedescendant", `found-${this.at}`);
    else this.input.removeAttribute("aria-activedescendant");
    this.list.children[this.at]?.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by !== undefined && this.found.length) {
      event.preventDefault();
      this.at = (this.at + by + this.found.length) % this.found.length;
      this.show(true);
    } else if (event.key === "Enter" && this.at >= 0) {
      this.take(this.found[this.at]);
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.input.value = "";
      document.getElementById("canvas").focus();
    }
    event.stopPropagation();
  }

  take(entry) {
    entry.act();
    this.close();
    document.getElementById("canvas").focus();
  }

  close() {
    this.found = [];
    this.at = -1;
    this.show(false);
  }
}
