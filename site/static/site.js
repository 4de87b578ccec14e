// A picture is a link to itself, so that it can be opened at full size.
for (const image of document.querySelectorAll("article img")) {
  if (image.closest("a")) continue;
  const link = document.createElement("a");
  link.className = "picture";
  link.href = image.src;
  image.replaceWith(link);
  link.append(image);
}
