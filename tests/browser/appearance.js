// What a person sees of one card: how far it reaches beyond its output area, and the contrast of each piece of text.
(card) => {
  const area = card.closest(".jp-OutputArea-output").getBoundingClientRect();
  const everything = [card, ...card.querySelectorAll("*")];
  const beyond = Math.max(...everything.map((element) => element.getBoundingClientRect().right - area.right));

  const channels = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return { rgb: [red, green, blue], alpha };
  };
  const mix = (top, bottom, alpha) => top.map((value, i) => alpha * value + (1 - alpha) * bottom[i]);
  const over = (colour, below) => mix(channels(colour).rgb, below, channels(colour).alpha);

  // Text and background as painted: each element lies on what is behind it, with its own opacity.
  const painted = ([element, ...inner], behind) => {
    const style = getComputedStyle(element);
    const background = over(style.backgroundColor, behind);
    const both = inner.length ? painted(inner, background) : [over(style.color, background), background];
    return both.map((colour) => mix(colour, behind, Number(style.opacity)));
  };
  const luminance = (rgb) => {
    const linear = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const contrast = (element) => {
    const path = [];
    for (let e = element; e; e = e.parentElement) path.unshift(e);
    const [dark, light] = painted(path, [255, 255, 255]).map(luminance).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };

  const texts = [];
  const walker = document.createTreeWalker(card, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement, data } = walker.currentNode;
    const mark = parentElement.closest("[role=img]") !== null;
    if (data.trim()) texts.push({ text: data, mark, contrast: contrast(parentElement) });
  }
  return { beyond, texts };
}
