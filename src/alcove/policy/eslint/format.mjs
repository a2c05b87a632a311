// What was found, without the code that eslint's own formats repeat. So many of each rule: none hides another.
const MOST = 50;

export default function format(results) {
  const counts = new Map();
  const found = [];
  for (const { filePath, messages } of results) {
    for (const { ruleId, line, message } of messages) {
      const rule = ruleId ?? "unreadable";
      const count = counts.get(rule) ?? 0;
      counts.set(rule, count + 1);
      if (count < MOST) {
        found.push({ file: filePath, line: line ?? 0, rule, text: String(message).slice(0, 300) });
      }
    }
  }
  return JSON.stringify(found);
}
