// What the code says to eslint (comments, its own configuration) does not count, and no folder is left out.
import * as espree from "espree";
import security from "eslint-plugin-security";

// Node.js goes by package.json whether a file is a module or CommonJS; what neither can read is a finding.
const parser = {
  meta: { name: "alcove", version: "1" },
  parseForESLint(code, options) {
    try {
      return { ast: espree.parse(code, { ...options, sourceType: "module" }) };
    } catch (error) {
      try {
        return { ast: espree.parse(code, { ...options, sourceType: "commonjs" }) };
      } catch {
        throw error;
      }
    }
  },
};

// Rules know what is Node.js's own by these.
const globals = Object.fromEntries(
  ["global", "globalThis", "process", "require", "module", "setImmediate", "setInterval", "setTimeout"].map((name) => [
    name,
    "readonly",
  ]),
);

const named = (selector) =>
  `:matches(CallExpression[callee.name="require"], ImportDeclaration, ImportExpression) > ${selector}`;

// Code that is run and that no scanner has read.
const unread = [
  {
    selector: named("Literal[value=/^\\.{0,2}\\u002f.*\\.(?!(?:js|cjs|mjs|json|node)$)[^.\\u002f]*$/]"),
    message: "Runs a file whose name is not that of JavaScript.",
  },
  { selector: named("Literal[value=/^data:/]"), message: "Runs code from a data URL." },
  { selector: named("Literal[value=/^(?:node:)?vm$/]"), message: "Runs code from text, by the module vm." },
  { selector: 'ImportExpression:not([source.type="Literal"])', message: "Imports a module by a name that is computed." },
];

export default [
  {
    files: ["**/*.[jJ][sS]", "**/*.[mM][jJ][sS]", "**/*.[cC][jJ][sS]"],
    languageOptions: { parser, sourceType: "module", globals },
    linterOptions: { noInlineConfig: true, reportUnusedDisableDirectives: "off" },
    plugins: { security },
    rules: {
      ...security.configs.recommended.rules,
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-syntax": ["error", ...unread],
    },
  },
  { ignores: ["!**/node_modules/", "!**/.git/"] },
];
