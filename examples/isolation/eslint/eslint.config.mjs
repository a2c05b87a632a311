// What the code says to eslint (comments, its own configuration) does not count, and no folder is left out.
import security from "eslint-plugin-security";

export default [
  {
    ...security.configs.recommended,
    files: ["**/*.js", "**/*.mjs", "**/*.cjs"],
    linterOptions: { noInlineConfig: true },
  },
  { ignores: ["!**/node_modules/", "!**/.git/"] },
];
