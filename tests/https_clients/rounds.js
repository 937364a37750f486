// How long an app goes on. Its last word is a number of rounds, or the path of a file: then it makes rounds until there
// is this file, and one in which a call got no reply begins again.

const fs = require('node:fs');

const end = process.argv.at(-1);

// Whether this error of a socket is why a call got no reply.
const isLost = (error) => /^E[A-Z]+$/.test(error.code);

// Makes the rounds, no two of one number, and returns how many.
async function goOn(aRound, lost = isLost) {
  const untilFile = Number.isNaN(Number(end));
  let [done, again] = [0, 0];
  while (untilFile ? !fs.existsSync(end) : done < Number(end)) {
    try {
      await aRound(done + again);
      done += 1;
      console.log(`round ${done}`);
    } catch (error) {
      if (!untilFile || !lost(error) || again === 100) throw error;
      again += 1;
      console.log(`again: ${error} ${error.cause ?? ''}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  return done;
}

module.exports = { goOn };
