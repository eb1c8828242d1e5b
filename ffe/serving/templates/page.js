"use strict";
// Photos go to the server that this page comes from, and to nobody else. Photos, answers and the token live in this page's memory.
(() => {
  const AT_ONCE = 4; // photos on their way; more would wait in the server's queue instead of here
  const TRIES = 30; // of a photo while the server is busy
  const SHOWN = 5; // classes of an answer
  const PREVIEW = 416; // pixels of its longer side
  const get = (id) => document.getElementById(id);
  const list = get("photos");
  const waiting = [];
  let running = 0;
  let token = "";
  let tokenGiven = null; // a promise, while the token is asked for
  let threshold = 0;

  const make = (tag, properties, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
  const counted = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
  const percent = (share) => `${share > 0.999 ? ">99.9" : share < 0.001 ? "<0.1" : (100 * share).toFixed(1)}\u202f%`;
  const say = (words) => {
    get("said").append(make("p", { textContent: words }));
    if (get("said").childElementCount > 20) get("said").firstChild.remove();
  };

  // One request. `sent` is told the share of the photo that has gone; a status of 0 = no answer came.
  const ask = (path, photo, sent) => new Promise((done) => {
    if (photo?.gone.aborted) return done({ status: 0 });
    const request = new XMLHttpRequest();
    request.open(photo ? "POST" : "GET", path);
    request.responseType = "json";
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    if (photo) {
      request.setRequestHeader("Content-Type", "application/octet-stream"); // never that of a form
      request.upload.onprogress = (event) => sent(event.loaded / event.total);
      photo.gone.addEventListener("abort", () => request.abort(), { once: true });
    }
    request.onloadend = () => done({
      status: request.status, said: request.response || {}, after: Number(request.getResponseHeader("Retry-After")) || 1,
    });
    request.send(photo && photo.file);
  });

  const askForToken = () => {
    tokenGiven ||= new Promise((done) => {
      const form = get("ask-token");
      get("refused").textContent = token && "The server does not take this token.";
      form.hidden = false;
      get("token").focus();
      form.onsubmit = (event) => {
        event.preventDefault();
        token = get("token").value.replace(/[^!-~]/g, "");
        get("token").value = "";
        form.hidden = true;
        tokenGiven = null;
        done();
      };
    });
    return tokenGiven;
  };

  // The server's answer, asked again while it is busy or wants a token; {error} holds a sentence where there is none.
  const answer = async (path, photo, sent) => {
    const tell = (words) => photo && (photo.words.textContent = words);
    for (let tries = 1; ; tries++) {
      const used = token;
      const found = await ask(path, photo, sent);
      if (found.status === 401) {
        tell("It waits for the token.");
        if (used === token) await askForToken();
      } else if (found.status === 503 && tries < TRIES) {
        tell("The server is busy, and is asked again.");
        await wait(found.after * (1 + Math.random() / 2)); // not all at once again
      } else if (found.status === 0) {
        return { error: "No answer came: the server has stopped, or the file has changed. Give the photo again." };
      } else if (found.status !== 200) {
        const { error, label } = found.said; // of a photo that cannot be read, the label is null
        return { error: label === null ? `Cannot be read: ${error}` : error || `The server answered with the code ${found.status}.` };
      } else {
        return found.said;
      }
    }
  };

  const asked = answer("model").then((model) => {
    if (model.error) {
      get("model").textContent = model.error;
      return;
    }
    threshold = model.threshold;
    const few = model.classes.length <= 6;
    const classes = few ? new Intl.ListFormat("en").format(model.classes) : counted(model.classes.length, "class", "classes");
    get("model").textContent = `The model tells ${classes} apart.`
      + (model.accuracy === null ? "" : ` It was right on ${model.accuracy === 1 ? "all" : percent(model.accuracy)} of the photos that it was tested on.`)
      + (threshold ? ` Below ${percent(threshold)} it says that it is not sure.` : "");
    get("classes").hidden = few;
    get("classes").firstElementChild.textContent = "Which classes?";
    get("classes").lastElementChild.textContent = model.classes.join(", ");
  });

  const bar = ([name, share]) => {
    const fill = make("i");
    fill.style.width = `${100 * share}%`;
    const rail = make("dd", { className: "rail", ariaHidden: "true" }, fill);
    return make("div", {}, make("dt", { textContent: name }), rail, make("dd", { textContent: percent(share) }));
  };

  const bars = (probabilities) => {
    const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
    const first = sorted.slice(0, SHOWN), rest = sorted.slice(SHOWN);
    const shown = [make("dl", { className: "bars" }, ...first.map(bar))];
    if (rest.length) {
      const more = make("details", {}, make("summary", { textContent: counted(rest.length, "more class", "more classes") }));
      more.addEventListener("toggle", () => more.append(make("dl", { className: "bars" }, ...rest.map(bar))), { once: true });
      shown.push(more);
    }
    return shown;
  };

  const heatMap = (found, name) => {
    const [speaksFor, against, ...others] = found.legend;
    const line = (key, words) => make("li", {}, ...(key ? [make("span", { className: `key ${key}` })] : []), words);
    return make("figure", { className: "why" },
      make("img", { src: found.overlay, alt: `${name} in grey under a heat map: ${found.legend.join(", ")}.` }),
      make("figcaption", {}, make("ul", {}, line("for", speaksFor), line("against", against), ...others.map((words) => line("", words)))));
  };

  // The button that shows and hides where the model saw what it says; the server is asked once.
  const whyButton = (photo, label) => {
    const button = make("button", { type: "button", className: "plain", textContent: `Why ${label}?`, ariaExpanded: "false" });
    let map = null, busy = false;
    button.addEventListener("click", async () => {
      if (busy) return;
      if (!map) {
        busy = true;
        button.textContent = "Looking where…";
        const found = await answer("explain", photo, () => {});
        busy = false;
        button.textContent = `Why ${label}?`;
        map = found.error ? make("p", { className: "why", textContent: found.error }) : heatMap(found, photo.file.name);
        map.hidden = true;
        photo.card.append(map);
        say(`${photo.file.name}: ${found.error || found.legend.join(", ")}`);
      }
      map.hidden = !map.hidden;
      button.ariaExpanded = String(!map.hidden);
    });
    return button;
  };

  const tally = () => {
    const all = list.childElementCount, open = list.querySelectorAll(".is-open").length;
    const wrong = list.querySelectorAll(".is-wrong").length, photos = counted(all, "photo", "photos");
    const said = open || wrong ? `${all - open - wrong} of ${photos} answered` : `${photos}, all answered`;
    get("tally").hidden = all < 2;
    get("tally").firstElementChild.textContent = `${said}${wrong ? `, ${wrong} not: see there` : ""}.`;
  };

  const removeButton = (photo) => {
    const button = make("button", { type: "button", className: "plain", textContent: "Remove", ariaLabel: `Remove ${photo.file.name}` });
    button.addEventListener("click", () => {
      const next = photo.card.nextElementSibling || photo.card.previousElementSibling;
      remove(photo);
      (next?.querySelector(".acts button:last-child") || get("files")).focus();
    });
    return button;
  };

  const remove = (photo) => {
    photo.stop();
    if (waiting.includes(photo)) waiting.splice(waiting.indexOf(photo), 1);
    photo.card.remove();
    tally();
  };

  // Previews are drawn small, one after the other: a photo of a telephone takes 50 MB where it is shown itself.
  let drawn = Promise.resolve();
  const preview = ({ file, gone }) => {
    const seen = make("div", { className: "seen" });
    drawn = drawn.then(async () => {
      if (gone.aborted) return;
      const url = URL.createObjectURL(file), image = make("img", { src: url });
      try {
        await image.decode();
        const scale = Math.min(1, PREVIEW / Math.max(image.naturalWidth, image.naturalHeight));
        const [width, height] = [image.naturalWidth, image.naturalHeight].map((side) => Math.ceil(side * scale));
        const small = make("canvas", { width, height, role: "img", ariaLabel: `Your photo ${file.name}` });
        small.getContext("2d").drawImage(image, 0, 0, width, height);
        seen.append(small);
      } catch {
        seen.append("no preview");
      }
      URL.revokeObjectURL(url);
    });
    return seen;
  };

  const show = (photo, found) => {
    const { card, file } = photo;
    const verdict = make("p", { className: "verdict" });
    const acts = make("p", { className: "acts" }, removeButton(photo));
    const parts = [verdict];
    if (found.error) {
      card.classList.add("is-wrong");
      verdict.textContent = found.error;
      say(`${file.name}: ${found.error}`);
    } else {
      const share = percent(found.probabilities[found.label]);
      verdict.textContent = found.sure ? found.label : `Not sure, perhaps ${found.label}`;
      if (!found.sure) {
        card.classList.add("is-odd");
        parts.push(make("p", { textContent: `The best is ${share}, and the model answers from ${percent(threshold)} on.` }));
      }
      parts.push(...bars(found.probabilities));
      acts.prepend(whyButton(photo, found.label));
      say(`${file.name}: ${verdict.textContent}, ${share}`);
    }
    card.classList.remove("is-open");
    photo.told.replaceChildren(...parts, acts);
  };

  const next = async () => {
    if (running >= AT_ONCE || !waiting.length) return;
    const photo = waiting.shift();
    running++;
    const found = await answer("predict", photo, (share) => {
      if (share < 1) photo.meter.value = share;
      else photo.meter.removeAttribute("value");
      photo.words.textContent = share < 1 ? `Sending, ${Math.round(100 * share)}\u202f%` : "The model is looking.";
    });
    await asked; // for the threshold
    if (!photo.gone.aborted) show(photo, found);
    running--;
    tally();
    next();
  };

  const give = (files) => {
    const photos = [...files].map((file) => {
      const leave = new AbortController();
      const meter = make("progress", { max: 1, ariaLabel: `Progress of ${file.name}` });
      const words = make("p", { className: "file", textContent: "It waits for its turn." });
      const photo = { file, gone: leave.signal, stop: () => leave.abort(), meter, words };
      photo.told = make("div", {}, meter, words, make("p", { className: "acts" }, removeButton(photo)));
      const told = make("div", {}, make("h2", { className: "file", textContent: file.name }), photo.told);
      photo.card = make("li", { className: "photo is-open" }, preview(photo), told);
      photo.card.photo = photo;
      return photo;
    });
    get("problem").textContent = photos.length ? "" : "There was no photo in it; choose picture files.";
    list.prepend(...photos.map((photo) => photo.card));
    waiting.push(...photos);
    tally();
    for (let i = 0; i < AT_ONCE; i++) next();
  };

  get("files").addEventListener("change", (event) => {
    give(event.target.files);
    event.target.value = ""; // the same file may be chosen again
  });
  get("clear").addEventListener("click", () => {
    for (const card of [...list.children]) remove(card.photo);
    get("files").focus();
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) give(event.clipboardData.files);
  });
  const over = (on) => document.documentElement.classList.toggle("over", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    over(event.dataTransfer.types.includes("Files"));
  });
  document.addEventListener("dragleave", (event) => over(event.relatedTarget !== null));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    const folders = [...event.dataTransfer.items].filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
    if (folders.length) get("problem").textContent = "That is a folder; open it, and drop the photos in it.";
    else give(event.dataTransfer.files);
  });

  // A browser lends its camera only to pages of this machine, and to those that come by https.
  const lens = get("lens"), film = lens.querySelector("video");
  let shots = 0;
  const cameras = async () => (await navigator.mediaDevices.enumerateDevices()).some((device) => device.kind === "videoinput");
  if (navigator.mediaDevices) cameras().then((found) => (get("camera").hidden = !found));
  get("camera").addEventListener("click", async () => {
    get("problem").textContent = "";
    try {
      film.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
      lens.showModal();
    } catch (error) {
      get("problem").textContent = error.name === "NotAllowedError"
        ? "The browser keeps the camera from this page; allow it in the page's settings, beside its address."
        : `The camera cannot be used: ${error.message}.`;
    }
  });
  get("shoot").addEventListener("click", () => {
    const still = make("canvas", { width: film.videoWidth, height: film.videoHeight });
    still.getContext("2d").drawImage(film, 0, 0);
    still.toBlob((blob) => give([new File([blob], `camera ${++shots}.jpg`, { type: blob.type })]), "image/jpeg", 0.95);
    lens.close();
  });
  get("close").addEventListener("click", () => lens.close());
  lens.addEventListener("close", () => {
    for (const track of film.srcObject.getTracks()) track.stop();
    film.srcObject = null;
  });
})();
