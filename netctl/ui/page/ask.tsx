/** The token stands behind the # of the printed address, which browsers send to nobody. */
const token = takeToken();

function takeToken(): string {
  const given = location.hash.slice(1);
  if (given !== "") {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") ?? "";
}

/** @throws {Error} with what a person can do about it */
export async function ask<Answer>(path: string): Promise<Answer> {
  const response = await fetch(path, { headers: { authorization: `Bearer ${token}` } }).catch(() => {
    throw new Error("netctl ui has ended, or can't be reached");
  });
  if (response.status === 401)
    throw new Error("the address lacks its token: open the one that netctl ui printed");
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as Answer;
}
