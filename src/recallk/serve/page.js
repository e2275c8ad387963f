// Names and labels are set as text only: nothing that somebody else has written is ever read as HTML.
const at = (id) => document.getElementById(id);
const PAGE = 24;
let asked = null; // what was searched for last: {id}, {text} or {file}
let shown = 0;
let number = 0; // of the search: a late answer of an earlier one is dropped

const element = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

const say = (text, wrong = false) => {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
};

const card = (item, rank) => {
  const button = element("button", undefined, { type: "button" });
  if (item.picture) {
    const image = element("img", undefined, { src: item.picture, alt: "", loading: "lazy", width: 192, height: 192 });
    image.addEventListener("error", () => image.replaceWith(element("span", "no image", { class: "blank" })));
    button.append(image);
  } else if (about.of !== "texts") {
    button.append(element("span", "no image", { class: "blank" }));
  }
  const line = element("span", undefined, { class: "similarity" });
  line.append(element("strong", item.similarity.toFixed(3)), element("span", `#${rank}`, { class: "rank" }));
  button.append(line);
  const known = element("dl");
  for (const [key, value] of Object.entries(item)) {
    if (["similarity", "picture"].includes(key)) continue;
    known.append(element("dt", key), element("dd", String(value), { dir: "auto" }));
  }
  button.append(known);
  button.addEventListener("click", () => search({ id: item.id }));
  button.dataset.id = item.id;
  const place = element("li");
  place.append(button);
  return place;
};

const request = () => {
  const where = at("where").value.trim();
  if (asked.file) {
    const form = new FormData();
    form.append("image", asked.file);
    form.append("k", PAGE);
    form.append("offset", shown);
    if (where) form.append("where", where);
    return fetch("/search", { method: "POST", body: form });
  }
  const query = new URLSearchParams({ ...asked, k: PAGE, offset: shown });
  if (where) query.set("where", where);
  return fetch(`/search?${query}`);
};

const fill = async () => {
  const own = ++number;
  say("searching");
  at("results").setAttribute("aria-busy", "true");
  let answer, found;
  try {
    answer = await request();
    found = await answer.json();
  } catch {
    if (own === number) say("The server does not answer. Is it still running?", true);
    return;
  } finally {
    at("results").removeAttribute("aria-busy");
  }
  if (own !== number) return;
  if (!answer.ok) {
    say(found.error, true);
    at("more").hidden = true;
    return;
  }
  const first = shown;
  found.results.forEach((item, place) => at("results").append(card(item, first + place + 1)));
  shown += found.results.length;
  at("more").hidden = !found.more;
  say(shown ? `${shown} shown, the nearest first` : "Nothing meets the condition.");
  if (first && found.results.length) at("results").children[first].querySelector("button").focus();
};

const search = (what) => {
  asked = what;
  shown = 0;
  at("results").replaceChildren();
  at("more").hidden = true;
  at("query").hidden = false;
  const picture = at("picture");
  if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
  picture.hidden = false;
  if (about.of === "texts") picture.hidden = true;
  else picture.src = what.file ? URL.createObjectURL(what.file) : `/pictures/${encodeURIComponent(what.id)}`;
  at("asked").textContent = what.file ? what.file.name || "pasted image" : what.text ?? what.id;
  at("id").value = what.text ?? what.id ?? "";
  if (what.file) at("file").value = "";
  window.scrollTo({ top: 0 });
  fill();
};

const first = (files) => [...(files ?? [])].find((file) => file.type.startsWith("image/") || !file.type);

at("picture").addEventListener("error", () => { at("picture").hidden = true; });
at("file").addEventListener("change", () => { if (at("file").files.length) search({ file: at("file").files[0] }); });
at("more").addEventListener("click", fill);
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = at("id").value.trim();
  if (typed && about.of === "texts" && typed !== asked?.id) search({ text: typed });
  else if (typed) search({ id: typed });
  else if (asked) search(asked);
  else say(about.of === "texts" ? "Type what to look for." : "Choose an image, or type the id of an item.", true);
});
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const file = first(event.dataTransfer.files);
  if (file) search({ file });
  else say("That is no image.", true);
});
document.addEventListener("paste", (event) => {
  const file = first(event.clipboardData.files);
  if (file) search({ file });
});

const about = await (await fetch("/about")).json();
document.title = `Search ${about.name}`;
at("name").textContent = about.name;
at("about").textContent = `${about.items.toLocaleString("en")} ${about.of}`;
at("columns").textContent = `columns: ${about.columns.filter((name) => name !== "image").join(", ")}`;
if (about.of !== "images") at("drop").hidden = true;
if (about.of === "texts") {
  document.querySelector("label[for=id]").textContent = "Text";
  at("id").placeholder = "what to look for";
}
