// look.mjs URL STUDY_UID FOLDER SERIES...: opens a study in OHIF in headless Chromium, puts each series (by its
// description) into the viewport, and writes FOLDER/NN.png. Prints one JSON line per series: what can be read in the
// viewport, and the points of every line that is drawn over the image, in CSS pixels.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

const [url, study, folder, ...series] = process.argv.slice(2);
const PATIENCE = 240000; // ms: the machine may be busy with other tests
const THUMBNAIL = '[data-cy^="study-browser-thumbnail"]';
const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'ohif-'));
const software = ['--disable-gpu', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'];

const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  viewport: { width: 1400, height: 900 },
  args: ['--no-sandbox', '--ignore-gpu-blocklist', '--disable-background-networking', ...software],
});

async function still(page) {
  // wait until two pictures, a second apart, are the same
  let before = Buffer.alloc(0);
  for (let second = 0; second < 40; second++) {
    const now = await page.screenshot();
    if (now.equals(before)) return now;
    before = now;
    await page.waitForTimeout(1000);
  }
  return before;
}

async function dismiss(page) {
  for (const words of ['Skip all', 'Confirm and hide']) {
    const button = page.getByText(words, { exact: true }).first();
    if (await button.isVisible().catch(() => false)) await button.click().catch(() => {});
  }
}

const drawn = () =>
  [...document.querySelectorAll('.viewport-element svg, .svg-layer')].flatMap((layer) =>
    [...layer.querySelectorAll('path, polyline, line, circle, ellipse')].map((shape) => {
      const box = shape.getBoundingClientRect();
      return { kind: shape.tagName, x: box.x, y: box.y, width: box.width, height: box.height };
    }),
  );

const pictures = () =>
  [...document.querySelectorAll('.viewport-element canvas, canvas.cornerstone-canvas')].map((canvas) => {
    const box = canvas.getBoundingClientRect();
    return { x: box.x, y: box.y, width: box.width, height: box.height };
  });

try {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  const errors = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(`${url}/viewer?StudyInstanceUIDs=${study}`, { waitUntil: 'load' });
  await page.waitForSelector(THUMBNAIL);
  await still(page);
  await dismiss(page);
  for (const [index, description] of series.entries()) {
    const thumbnail = page.locator(THUMBNAIL).filter({ hasText: description }).first();
    await thumbnail.scrollIntoViewIfNeeded();
    await thumbnail.dblclick();
    await page.waitForTimeout(4000);
    await dismiss(page);
    // what lies over the image appears with the next drawing: one slice on, and back
    await page.mouse.move(820, 470);
    for (const step of [120, -120]) {
      await page.mouse.wheel(0, step);
      await page.waitForTimeout(700);
    }
    const name = `${String(index + 1).padStart(2, '0')}.png`;
    fs.writeFileSync(path.join(folder, name), await still(page));
    const text = await page.evaluate(() => document.body.innerText);
    const found = { series: description, picture: name, text, errors: errors.splice(0) };
    console.log(JSON.stringify({ ...found, drawn: await page.evaluate(drawn), canvases: await page.evaluate(pictures) }));
  }
} finally {
  await browser.close();
  fs.rmSync(profile, { recursive: true, force: true });
}
