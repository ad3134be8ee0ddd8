/** Mouse, pen, fingers and wheel on the canvas: one pans, two pinch, a click chooses. */
class Pointer {
  static SLACK = 4;

  constructor(scene, onChoose) {
    Object.assign(this, { scene, onChoose, down: new Map(), moved: 0 });
    const { canvas } = scene;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event, true));
    canvas.addEventListener("pointercancel", (event) => this.release(event, false));
    canvas.addEventListener("wheel", (event) => this.turn(event), { passive: false });
  }

  press(event) {
    if (event.button !== 0) return;
    this.scene.canvas.setPointerCapture(event.pointerId);
    this.scene.canvas.classList.add("dragging");
    if (!this.down.size) this.moved = 0;
    this.down.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.down.size > 1) this.moved = Infinity;
  }

  move(event) {
    const before = this.down.get(event.pointerId);
    if (before === undefined) return;
    const now = [event.offsetX, event.offsetY];
    const others = [...this.down].filter(([id]) => id !== event.pointerId);
    if (others.length) this.pinch(others[0][1], before, now); else this.drag(before, now);
    this.down.set(event.pointerId, now);
  }

  drag([x0, y0], [x1, y1]) {
    this.moved += Math.hypot(x1 - x0, y1 - y0);
    if (this.moved > Pointer.SLACK) this.scene.pan(x1 - x0, y1 - y0);
  }

  pinch(fixed, before, now) {
    const distance = (a, b) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
    this.scene.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    this.scene.zoom(distance(fixed, now) / distance(fixed, before), (fixed[0] + now[0]) / 2, (fixed[1] + now[1]) / 2);
  }

  release(event, clicks) {
    const known = this.down.delete(event.pointerId);
    if (this.down.size) return;
    this.scene.canvas.classList.remove("dragging");
    if (known && clicks && this.moved <= Pointer.SLACK) {
      this.onChoose(this.scene.layout.nodeAt(...this.scene.toGraph(event.offsetX, event.offsetY)));
    }
  }

  turn(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 33 : event.deltaMode === 2 ? 400 : 1);
    const speed = event.ctrlKey ? .01 : .0016;
    this.scene.zoom(Math.exp(-Math.max(-400, Math.min(400, pixels)) * speed), event.offsetX, event.offsetY);
  }
}
