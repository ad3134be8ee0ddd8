"use strict";

/** What the page was written with. All texts in it come from a model that nobody vouches for. */
const DATA = JSON.parse(document.getElementById("data").textContent);

const nodes = DATA.nodes.map(([op, name, label, inputs, outputs, attributes, source, groups, zeros], index) =>
  ({ index, op, name, label, inputs, outputs, attributes, source, groups, zeros }));

const values = DATA.values.map(([name, groups, zeros], index) => ({ index, name, groups, zeros, maker: null, readers: [] }));

const groups = DATA.groups.map(([id, units, parameters, frozen, help, cause, statistic, members], index) =>
  ({ index, id, units, parameters, frozen, help, cause, statistic,
     members: members.map(([tensor, axis, slots, users]) => ({ tensor, axis, slots, users })) }));

const layers = DATA.layers.map(([node, shape, parameters, macs, prunable, zeros, pattern]) =>
  ({ node: nodes[node], shape, parameters, macs, prunable, zeros, pattern }));

const groupById = new Map(groups.map((group) => [group.id, group]));

for (const node of nodes) {
  for (const [value] of node.outputs) values[value].maker = node;
  for (const operand of node.inputs) {
    if (operand !== null && !values[operand[0]].readers.includes(node)) values[operand[0]].readers.push(node);
  }
}

/** The nodes that have a part in a group: its parameters' readers, and what hands its channels on. */
function nodesOf(group) {
  const owners = new Set(group.members.flatMap((member) => member.users));
  const carriers = nodes.filter((node) => node.groups.includes(group.index)).map((node) => node.index);
  return { owners, all: new Set([...owners, ...carriers]) };
}

const percent = (share) => share === null ? "" : `${(100 * share).toFixed(1)} %`;
const count = (number) => number === null ? "" : number.toLocaleString("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const brief = (number) => short.format(number);

/** An element with text, never with HTML. */
function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (className) made.className = className;
  return made;
}
