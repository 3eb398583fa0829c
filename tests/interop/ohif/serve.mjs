// serve.mjs PORT ORTHANC_HTTP_PORT: OHIF's built files and, under the same origin, Orthanc's DICOMweb. Loopback only.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const [port, orthanc] = process.argv.slice(2).map(Number);
const app = path.join(path.dirname(fileURLToPath(import.meta.url)), 'app', 'dist');

const types = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.mjs': 'text/javascript',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.woff2': 'font/woff2',
};

const configuration = {
  routerBasename: '/',
  extensions: [],
  modes: [],
  showStudyList: true,
  maxNumberOfWebWorkers: 2,
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false,
  strictZSpacingForVolumeViewport: true,
  investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'orthanc',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'orthanc',
      configuration: {
        friendlyName: 'Orthanc',
        name: 'orthanc',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/wado',
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        qidoSupportsIncludeField: true,
        enableStudyLazyLoad: true,
        supportsWildcard: true,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true },
      },
    },
  ],
};

function forward(request, response) {
  // Orthanc builds its BulkDataURI from the Host header
  const headers = { ...request.headers, host: `127.0.0.1:${port}` };
  const options = { host: '127.0.0.1', port: orthanc, path: request.url, method: request.method, headers };
  const onward = http.request(options, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', (error) => response.writeHead(502).end(String(error)));
  request.pipe(onward);
}

function file(name) {
  const wanted = path.join(app, path.normalize(name));
  const inside = wanted.startsWith(app + path.sep) && fs.existsSync(wanted) && fs.statSync(wanted).isFile();
  return inside ? wanted : path.join(app, 'index.html'); // every route of the viewer is its one page
}

http
  .createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
    if (/^\/(dicom-web|wado)(\/|$)/.test(name)) {
      forward(request, response);
    } else if (name === '/app-config.js') {
      response.setHeader('Content-Type', 'text/javascript');
      response.end(`window.config = ${JSON.stringify(configuration)};`);
    } else {
      const found = file(name);
      response.setHeader('Content-Type', types[path.extname(found)] ?? 'application/octet-stream');
      fs.createReadStream(found).pipe(response);
    }
  })
  .listen(port, '127.0.0.1', () => console.log('listening'));
