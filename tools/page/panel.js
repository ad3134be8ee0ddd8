/** What stands beside the graph: the selected node or group, and the tables. */
class Panel {
  constructor(choose) {
    this.choose = choose; // {node(index), group(group)}
    this.tabs = ["detail", "groups", "layers"];
    for (const name of this.tabs) {
      const tab = document.getElementById(`tab-${name}`);
      tab.addEventListener("click", () => this.show(name));
      tab.addEventListener("keydown", (event) => this.step(event, name));
    }
  }

  show(name) {
    for (const other of this.tabs) {
      const tab = document.getElementById(`tab-${other}`);
      tab.setAttribute("aria-selected", String(other === name));
      tab.tabIndex = other === name ? 0 : -1;
      document.getElementById(other).hidden = other !== name;
    }
  }

  step(event, name) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    const next = this.tabs[(this.tabs.indexOf(name) + by + this.tabs.length) % this.tabs.length];
    this.show(next);
    document.getElementById(`tab-${next}`).focus();
  }

  fill(parts) {
    document.getElementById("detail").replaceChildren(...parts);
    document.getElementById("detail").scrollTop = 0;
    this.show("detail");
  }

  showModel() {
    this.fill([
      element("h2", "Model"),
      this.list(DATA.model),
      element("p", "Click on a node, or on a row of the tables.", "faint"),
      element("h3", "Keys"),
      this.list([["arrows", "pan"], ["+ \u2212", "zoom"], ["0", "the whole graph"], ["Home", "where it begins"], ["/", "search"],
        ["Shift+arrows", "from node to node"], ["Esc", "nothing selected"]]),
    ]);
  }

  showNode(node) {
    const parts = [element("h2", node.op), this.list([["name", node.name], ...(node.source ? [["source", node.source]] : []),
      ...(node.zeros === null ? [] : [["zeros", `${percent(node.zeros)} of its weights`]])])];
    this.section(parts, "Groups", node.groups.map((index) => this.groupLine(groups[index])));
    const pinned = node.groups.map((index) => groups[index]).filter((group) => group.frozen !== null);
    this.section(parts, "What pins it", this.pins(pinned));
    const caused = groups.filter((group) => group.cause !== null && group.cause === node.name && !pinned.includes(group));
    this.section(parts, "What it pins", this.pins(caused));
    this.section(parts, "Attributes", node.attributes.length ? [this.list(node.attributes)] : []);
    this.section(parts, "Inputs", node.inputs.map((operand) => this.operand(operand, true)));
    this.section(parts, "Outputs", node.outputs.map((operand) => this.operand(operand, false)));
    this.fill(parts);
  }

  showGroup(group) {
    const facts = [["units", count(group.units)]];
    if (group.parameters !== null) facts.push(["parameters", count(group.parameters)]);
    if (group.statistic) facts.push(["statistic", "a norm is taken over its units, so removal changes it"]);
    const parts = [element("h2", `Group ${group.id}`), this.list(facts)];
    this.section(parts, "What pins it", this.pins(group.frozen === null ? [] : [group]));
    this.section(parts, `Members: ${count(group.members.length)} axes`, group.members.map((member) => this.member(member)));
    this.fill(parts);
  }

  section(parts, title, content) {
    if (content.length) parts.push(element("h3", title), ...content);
  }

  list(pairs) {
    const list = element("dl");
    for (const [term, text] of pairs) list.append(element("dt", term), element("dd", text));
    return list;
  }

  link(text, act) {
    const link = element("button", text || "(no name)", "link");
    link.type = "button";
    link.addEventListener("click", act);
    return link;
  }

  nodeLink(node, text = node.label || node.name) { return this.link(text, () => this.choose.node(node.index)); }

  groupLine(group) {
    const line = element("div", "", "operand");
    const swatch = element("span", "", "swatch");
    swatch.style.backgroundColor = this.choose.colour(group);
    line.append(swatch, " ", this.link(group.id, () => this.choose.group(group)),
      ` ${count(group.units)} units${group.frozen === null ? "" : ", pinned"}`);
    return line;
  }

  /** Why groups are pinned, each reason once. */
  pins(pinned) {
    const reasons = new Map();
    for (const group of pinned) reasons.set(group.frozen, [...(reasons.get(group.frozen) ?? []), group]);
    return [...reasons].map(([reason, of]) => {
      const box = element("div", "", "pin");
      const head = element("p");
      of.forEach((group, position) => head.append(position ? ", " : "", this.link(group.id, () => this.choose.group(group))));
      box.append(head, element("p", reason));
      if (of[0].help) box.append(element("p", `hint: ${of[0].help}`));
      return box;
    });
  }

  operand(operand, isInput) {
    const line = element("div", "", "operand");
    if (operand === null) {
      line.textContent = "(absent)";
      return line;
    }
    const value = values[operand[0]];
    const near = isInput ? (value.maker ? [value.maker] : []) : value.readers;
    line.append(near.length === 1 ? this.nodeLink(near[0], value.name) : element("strong", value.name));
    line.append(element("br"), this.type(DATA.types[operand[1]]));
    if (value.zeros !== null) line.append(element("div", `weight, ${percent(value.zeros)} zeros`, "faint"));
    if (!isInput && near.length > 1) {
      const readers = element("div", "read by ");
      near.slice(0, 40).forEach((node, position) => readers.append(position ? ", " : "", this.nodeLink(node)));
      if (near.length > 40) readers.append(` and ${near.length - 40} more`);
      line.append(readers);
    }
    return line;
  }

  /** A type whose groups can be clicked on. */
  type(text) {
    const shown = element("span", "", "type");
    for (const part of text.split(/\b(g\d+)(?=:)/)) {
      const group = groupById.get(part);
      shown.append(group ? this.link(part, () => this.choose.group(group)) : part);
    }
    return shown;
  }

  member({ tensor, axis, slots, users }) {
    const line = element("div", "", "operand");
    line.append(element("strong", tensor), ` axis ${axis}, ${count(slots)} slots`);
    if (users.length) {
      line.append(element("br"), "read by ");
      users.forEach((node, position) => line.append(position ? ", " : "", this.nodeLink(nodes[node])));
    }
    return line;
  }

  // -- tables ------------------------------------------------------------

  fillTables() {
    new SortedTable(document.getElementById("groups"), groups, [
      { title: "Group", of: (group) => group.index, text: (group) => group.id },
      { title: "Units", of: (group) => group.units, number: true },
      { title: "Parameters", of: (group) => group.parameters ?? -1, text: (group) => count(group.parameters), number: true },
      { title: "Axes", of: (group) => group.members.length, number: true },
      { title: "Pinned by", of: (group) => group.frozen ?? "", style: "long" },
    ], (group) => this.choose.group(group));
    new SortedTable(document.getElementById("layers"), layers, [
      { title: "Layer", of: (layer) => layer.node.index, text: (layer) => layer.node.label || layer.node.op },
      { title: "Op", of: (layer) => layer.node.op, style: "tight" },
      { title: "Weight", of: (layer) => layer.shape, style: "tight" },
      { title: "Params", of: (layer) => layer.parameters, text: (layer) => brief(layer.parameters), number: true },
      { title: "MACs", of: (layer) => layer.macs, text: (layer) => brief(layer.macs), number: true },
      { title: "Prunable", of: (layer) => layer.prunable ?? -1, text: (layer) => percent(layer.prunable), number: true },
      { title: "Zeros", of: (layer) => layer.zeros ?? -1, text: (layer) => `${percent(layer.zeros)} ${layer.pattern}`.trim(), number: true },
    ], (layer) => this.choose.node(layer.node.index));
  }
}

/** A table that its headings sort; rows are chosen by the button in their first cell, or anywhere. */
class SortedTable {
  constructor(place, rows, columns, choose) {
    Object.assign(this, { rows: [...rows], columns, choose, sorted: 0, descending: false });
    this.body = element("tbody");
    const head = element("tr");
    this.heads = columns.map((column, position) => {
      const cell = element("th", "", column.number ? "number" : "");
      const button = element("button", column.title);
      button.type = "button";
      button.addEventListener("click", () => this.sort(position));
      cell.scope = "col";
      cell.append(button);
      return cell;
    });
    head.append(...this.heads);
    const table = element("table"), top = element("thead");
    top.append(head);
    table.append(top, this.body);
    place.replaceChildren(table);
    this.show();
  }

  sort(position) {
    const first = this.columns[position].number === true;
    this.descending = this.sorted === position ? !this.descending : first;
    this.sorted = position;
    const { of } = this.columns[position], sign = this.descending ? -1 : 1;
    this.rows.sort((a, b) => sign * (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : 0));
    this.show();
  }

  show() {
    this.heads.forEach((head, position) => {
      head.setAttribute("aria-sort", position !== this.sorted ? "none" : this.descending ? "descending" : "ascending");
    });
    this.body.replaceChildren(...this.rows.map((row) => this.line(row)));
  }

  line(row) {
    const line = element("tr");
    this.columns.forEach((column, position) => {
      const text = column.text ? column.text(row) : column.number ? count(column.of(row)) : column.of(row);
      const cell = element("td", position ? text : "", column.number ? "number" : column.style);
      if (!position) {
        const button = element("button", text, "link");
        button.type = "button";
        cell.append(button);
      }
      line.append(cell);
    });
    line.addEventListener("click", () => this.choose(row));
    return line;
  }
}
