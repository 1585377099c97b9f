// Between moments (RFC 3339, UTC) and the wall clock of the site, wherever the browser is.

const PARTS = {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  hourCycle: "h23",
};

// What a clock in the zone shows at a moment, as milliseconds as if it were UTC.
function wallClock(milliseconds, zone) {
  const parts = {};
  for (const { type, value } of new Intl.DateTimeFormat("en-US", { ...PARTS, timeZone: zone })
    .formatToParts(milliseconds)) {
    parts[type] = Number(value);
  }
  return Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second);
}

// The moment at which a clock in the zone shows `local` ("2026-03-01T08:00" or with seconds), as RFC 3339.
export function momentOf(local, zone) {
  const wanted = Date.parse(`${local}Z`);
  if (Number.isNaN(wanted)) throw new Error("This is not a date and time.");
  let moment = wanted;
  // Twice: the offset found first may be that of the other side of a change to summer time.
  for (let i = 0; i < 2; i += 1) moment -= wallClock(moment, zone) - wanted;
  return new Date(moment).toISOString();
}

// From first to last in two lines: the date and the times, or, over midnight, two moments.
export function span(first, last, zone) {
  const format = (style) => {
    const formatter = new Intl.DateTimeFormat(undefined, { ...style, timeZone: zone });
    return [first, last].map((moment) => formatter.format(new Date(moment)));
  };
  const days = format({ dateStyle: "medium" });
  const times = format({ timeStyle: "medium" });
  if (days[0] !== days[1]) return `${days[0]}, ${times[0]} –\n${days[1]}, ${times[1]}`;
  return `${days[0]}\n${times[0] === times[1] ? times[0] : `${times[0]} – ${times[1]}`}`;
}
