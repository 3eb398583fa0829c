// Walks the board with the keyboard alone, from signing in to an opinion, in dark, light and phone size; prints one JSON
// line a look: { name, violations (axe-core, WCAG 2.1 AA), errors (of the console and of scripts) }.
// node board.mjs URL FOLDER NAME PASSWORD
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [base, folder, name, password] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const rules = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] };
const looks = {
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 800 } },
  light: { colorScheme: "light", viewport: { width: 1280, height: 800 }, locale: "de-DE" },
  phone: { colorScheme: "dark", viewport: { width: 390, height: 844 } },
};
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
for (const [look, options] of Object.entries(looks)) {
  const page = await (await browser.newContext(options)).newPage();
  const errors = [], violations = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  const judge = async (place) => {
    await page.evaluate(axe);
    const found = await page.evaluate(async (wanted) => (await globalThis.axe.run(document, wanted)).violations, rules);
    for (const item of found) violations.push(`${place}: ${item.id} at ${item.nodes[0].target.join(" ")}`);
    await page.screenshot({ path: `${folder}/${place}-${look}.png`, fullPage: true });
  };
  await page.goto(`${base}/sign-in`);
  await judge("sign-in");
  await page.keyboard.type(name); // the first field has the focus
  await page.keyboard.press("Tab");
  await page.keyboard.type(password);
  await page.keyboard.press("Enter");
  await page.waitForSelector(".studies");
  await page.goto(`${base}/?show=all`); // an earlier look has reviewed the study
  await page.waitForSelector(".study");
  await page.waitForFunction(() => document.getElementById("live").textContent !== "");
  await judge("list");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("picture")?.naturalWidth > 0);
  await judge("study");
  await page.keyboard.press("2"); // the subdural window
  await page.waitForFunction(() => document.getElementById("picture").src.includes("subdural") && document.getElementById("picture").complete);
  const before = await page.textContent("#number");
  await page.keyboard.press("ArrowUp");
  if ((await page.textContent("#number")) === before) errors.push("the arrow key did not scroll");
  await page.focus("[name=opinion]");
  await page.keyboard.press("Space");
  await page.focus("[name=comment]");
  await page.keyboard.type(`from ${look}`);
  await page.keyboard.press("Enter");
  await page.waitForFunction((words) => document.body.textContent.includes(words), `from ${look}`);
  await page.goto(`${base}/operations`);
  await judge("operations");
  console.log(JSON.stringify({ name: look, violations, errors }));
}
await browser.close();
