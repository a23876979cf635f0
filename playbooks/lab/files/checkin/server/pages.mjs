// Pages that a person sees. Plain forms: they work without JavaScript.
const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const text = (value) => String(value).replace(/[&<>"']/g, (character) => escapes[character]);

function page(ctx, title, body) {
  ctx.type = 'html';
  ctx.set('Cache-Control', 'no-store');
  ctx.set('Content-Security-Policy', "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'");
  ctx.body = `<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <title>${text(title)}</title>
  <style>
    body { font: 1rem/1.5 sans-serif; margin: 4rem auto; max-width: 22rem; padding: 0 1rem }
    label, input, button { display: block; font: inherit; margin-top: .5rem }
    input { box-sizing: border-box; padding: .4rem; width: 100% }
    button { padding: .4rem 1rem }
    code { font-size: 1.5rem }
    .error { color: #b00020 }
  </style>
</head>
<body>
<h1>${text(title)}</h1>
${body}
</body>
</html>
`;
}

const error = (sentence) => (sentence ? `<p class="error" role="alert">${text(sentence)}</p>` : '');

export function signIn(ctx, { client, name = '', refusal }) {
  ctx.status = refusal ? 401 : 200;
  page(ctx, 'Sign in', `<p>The lab's Check-in. You go on to <strong>${text(client)}</strong>.</p>
${error(refusal)}
<form method="post" autocomplete="off">
  <label for="username">User name</label>
  <input id="username" name="username" value="${text(name)}" required autofocus>
  <label for="password">Password</label>
  <input id="password" name="password" type="password" required>
  <button id="sign-in" type="submit">Sign in</button>
</form>`);
}

export function enterCode(ctx, form, problem) {
  page(ctx, 'Connect a device', `<p>Enter the code that your device shows.</p>
${error(problem && 'This code is not known, has expired, or was used before.')}
${form}
<button type="submit" form="op.deviceInputForm">Continue</button>`);
}

export function confirmCode(ctx, form, client, code) {
  page(ctx, 'Connect a device', `<p><strong>${text(client)}</strong> asks to act for you. Does your device show this code?</p>
<p><code>${text(code)}</code></p>
${form}
<button type="submit" form="op.deviceConfirmForm">It does</button>
<button type="submit" form="op.deviceConfirmForm" name="abort" value="yes">It does not</button>`);
}

export function deviceDone(ctx) {
  page(ctx, 'Signed in', '<p>Your device is connected. You can close this page.</p>');
}

export function failure(ctx, sentence) {
  page(ctx, 'That did not work', error(sentence));
}
