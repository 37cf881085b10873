// Questions to the server. Addresses are relative, so that the secret word of the page's own address is kept.

async function asked(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error("The explorer does not answer any more. Is it still running in the terminal?");
  }
  const found = await reply.json().catch(() => null);
  if (!reply.ok) throw new Error(found?.error ?? `The explorer answered ${reply.status}.`);
  return found;
}

const query = (values) => new URLSearchParams(values).toString();

export const get = (path, values = {}) => asked(`${path}?${query(values)}`);
export const post = (path, values, body) => asked(`${path}?${query(values)}`, { method: "POST", body });
export const remove = (path, values) => asked(`${path}?${query(values)}`, { method: "DELETE" });
export const thumbnail = (image) => `thumbnail?${query({ image })}`;
export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
