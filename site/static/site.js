// A picture is a link to itself, so that it can be opened at full size.
for (const image of document.querySelectorAll("article img")) {
  if (image.closest("a")) continue;
  const link = document.createElement("a");
  link.className = "picture";
  link.href = image.src;
  image.replaceWith(link);
  link.append(image);
}

// Code can be copied: of an example in a docstring what is typed, without prompts and answers.
for (const code of document.querySelectorAll(".highlight > pre")) {
  if (code.closest(".cell_output")) continue;
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "Copy";
  button.onclick = async () => {
    const lines = code.textContent.trimEnd().split("\n"), typed = lines.filter(line => /^(>>>|\.\.\.)( |$)/.test(line));
    await navigator.clipboard.writeText((typed.length ? typed.map(line => line.slice(4)) : lines).join("\n"));
    button.textContent = "Copied";
    button.classList.add("done");
    setTimeout(() => { button.textContent = "Copy"; button.classList.remove("done"); }, 1500);
  };
  code.after(button);
}
