// Works the page of a night by keys and leaves what it saw as JSON in an element "result".
const result = {};
const text = (id) => document.getElementById(id).textContent;
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
const key = (k, shiftKey = false) =>
  document.getElementById("list").dispatchEvent(new KeyboardEvent("keydown", { key: k, shiftKey, bubbles: true }));
const filter = async (words) => {
  const f = document.getElementById("filter");
  f.value = words; f.dispatchEvent(new Event("input")); await wait(300);
};
addEventListener("error", (event) => { result.error = event.message; });
(async () => {
  await wait(300);
  result.rows = document.querySelectorAll(".row").length;
  result.names = [text("name")];
  key("j"); result.names.push(text("name")); key("ArrowDown"); key("k"); key("k"); result.names.push(text("name"));
  key("r"); key("b"); key("i", true); result.afterMarks = text("name"); result.marked = text("count");
  key("n"); key("u");
  result.stored = JSON.parse(localStorage.getItem(Object.keys(localStorage)[0]));
  result.stamps = document.querySelectorAll("#stamps img").length;
  result.points = document.querySelectorAll("#lightcurve circle").length;
  result.parts = document.querySelectorAll("#parts tr").length;
  await filter("n>=2 -single"); result.several = text("count");
  await filter("mag<banana"); result.message = text("filter-error");
  await filter("nothing-has-this-name"); result.empty = text("empty");
  await filter("");
  const marks = document.getElementById("marks"); marks.value = "bogus"; marks.dispatchEvent(new Event("change"));
  result.bogus = text("count"); marks.value = "all"; marks.dispatchEvent(new Event("change"));
  key("s"); result.sort = document.getElementById("sort").selectedOptions[0].textContent;
  let blob; const make = URL.createObjectURL; URL.createObjectURL = (b) => { blob = b; return make.call(URL, b); };
  HTMLAnchorElement.prototype.click = () => {};
  key("e"); result.file = await blob.text();
  result.before = text("name");
  key("m"); result.night = document.getElementById("night").open;
  key("j"); result.held = text("name"); document.getElementById("night").close();
  result.nightPictures = document.querySelectorAll("#night img").length;
  result.earlier = document.querySelectorAll("#lightcurve rect[width='6']").length;
  result.width = [document.documentElement.scrollWidth, innerWidth];
  const box = (id) => document.getElementById(id).getBoundingClientRect();
  result.boxes = ["list", "detail"].map((id) => [box(id).left, box(id).top, box(id).width, box(id).height]);
  const out = document.createElement("pre"); out.id = "result"; out.textContent = JSON.stringify(result); document.body.append(out);
})();
