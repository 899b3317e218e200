// Which account a tab starts with: the first that no other tab of this browser
// has. A lock is held for as long as the tab lives, so a closed tab gives its
// account back by itself.

let held = null; // the user whose lock this tab has
let giveBack = () => {};

/** Takes the first free account, or the first of all when none is free. */
export async function firstFree(accounts) {
  for (const account of accounts) {
    if (await claim(account.user)) return account;
  }
  return accounts[0];
}

/** Takes an account for this tab in place of the one it had; tells whether no other tab has it. */
export function claim(user) {
  if (user === held || !navigator.locks) return Promise.resolve(true); // no locks: plain http from elsewhere
  giveBack();
  held = null;
  return new Promise((resolve) => {
    navigator.locks.request(`viaduct-account-${user}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      if (!lock) return null;
      held = user;
      return new Promise((release) => { giveBack = release; });
    });
  });
}
